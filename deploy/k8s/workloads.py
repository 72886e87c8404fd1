"""Deployments with their Services and budgets, Jobs, and what they run under."""

from __future__ import annotations

from deploy.companion.programs import POOLED, SERVICES
from deploy.k8s.calls import EGRESS_PORT, GATEWAY_PORT
from deploy.k8s.objects import PART_OF, Object, any_object, labels_of, selector_of
from deploy.k8s.pods import pod_of
from deploy.k8s.processes import EGRESS, GATEWAY, Kind, Process, preparations, tiers
from shared.launch import PUBLIC_PORT
from shared.probe import INTERNAL_PORT

_PREPARING_SECONDS = 900


def objects_of(process: Process) -> list[Object]:
    """Everything of one process, in the order in which it is read."""
    return [_deployment(process), *_services(process), _budget(process)]


def accounts() -> list[Object]:
    """Who the pods are at the API server: each service itself, and nobody may do anything there."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "labels": PART_OF},
            "automountServiceAccountToken": False,
        }
        for name in (GATEWAY.name, EGRESS.name, *SERVICES)
    ]


def priorities() -> list[Object]:
    """Who gets a place first where there are too few: what all need, then the larger tiers."""
    classes = {"core": 100_000} | {tier.name: 10_000 * (tier.rank + 1) for tier in tiers()}
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": f"companion-{name}", "labels": PART_OF},
            "value": value,
            "description": f"ToolTip Companion: {name}",
        }
        for name, value in classes.items()
    ]


def common_services() -> list[Object]:
    """A service that runs as pools, asked by others: whichever instance."""
    return [
        any_object(
            "Service",
            "v1",
            service,
            PART_OF,
            {
                "selector": {"service": service, "kind": str(Kind.WEB)},
                "ports": _ports({"internal": INTERNAL_PORT}),
            },
        )
        for service in POOLED
    ]


def jobs() -> list[Object]:
    """What must be done before a new version's processes start."""
    return [_job(process) for process in preparations()]


def _deployment(process: Process) -> Object:
    return any_object(
        "Deployment",
        "apps/v1",
        process.name,
        labels_of(process),
        {
            # No `replicas`: an autoscaler's choice must outlive the next `kubectl apply`.
            "revisionHistoryLimit": 5,
            "minReadySeconds": 5,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": selector_of(process)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
            },
            "template": pod_of(process),
        },
    )


def _services(process: Process) -> list[Object]:
    if process == GATEWAY:
        return [_service(process, process.name, {"http": GATEWAY_PORT})]
    if process == EGRESS:
        return [_service(process, process.name, {"http": EGRESS_PORT})]
    if process.kind is not Kind.WEB:
        return []
    ports = {"http": PUBLIC_PORT, "internal": INTERNAL_PORT}
    return [
        _service(process, process.name, ports),
        _service(process, f"{process.name}-pods", ports, headless=True),
    ]


def _service(
    process: Process, name: str, ports: dict[str, int], *, headless: bool = False
) -> Object:
    spec = {"selector": selector_of(process), "ports": _ports(ports)}
    headless_spec = {"clusterIP": "None"} if headless else {}
    return any_object("Service", "v1", name, labels_of(process), {**headless_spec, **spec})


def _ports(ports: dict[str, int]) -> list[Object]:
    return [{"name": name, "port": port, "targetPort": name} for name, port in ports.items()]


def _budget(process: Process) -> Object:
    return any_object(
        "PodDisruptionBudget",
        "policy/v1",
        process.name,
        labels_of(process),
        {
            # Also right for a single pod, which could not be moved otherwise.
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector_of(process)},
        },
    )


def _job(process: Process) -> Object:
    pod = pod_of(process)
    return any_object(
        "Job",
        "batch/v1",
        process.name,
        labels_of(process),
        {
            "backoffLimit": 5,
            "activeDeadlineSeconds": _PREPARING_SECONDS,
            "ttlSecondsAfterFinished": 86_400,
            "template": {**pod, "spec": {"restartPolicy": "Never", **pod["spec"]}},
        },
    )
