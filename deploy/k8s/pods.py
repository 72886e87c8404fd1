"""The pods of each process: what they run, may and need, and how they are asked how they are."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.k8s import proxies
from deploy.k8s.containers import TMP, get, locked_down, ports, probe, settings_of, variables
from deploy.k8s.needs import needs_of
from deploy.k8s.objects import Object, labels_of, selector_of
from deploy.k8s.processes import Kind, Process
from deploy.k8s.settings import SECRETS, engine_files, internal_url
from deploy.k8s.times import LEAVE_SECONDS, grace_of
from deploy.k8s.versions import VERSION
from shared.launch import PUBLIC_PORT
from shared.probe import INTERNAL_PORT, METRICS_PORT

USER = 10001

_HEALTH = ["python", "-I", "-S", "/app/shared/probe.py", "health"]
# A pod that takes more is evicted.
_ROOM: Mapping[tuple[str, Kind], str] = {
    # What all services keep of a user, until the last one has told.
    ("auth", Kind.WEB): "1Gi",
    # Recordings that a voice is made from, while they come in.
    ("voice", Kind.WEB): "1Gi",
    # A day's usage, before it is sent to a bucket.
    ("billing", Kind.BEAT): "4Gi",
}


def pod_of(process: Process) -> Object:
    """The template of a pod."""
    is_proxy = process.kind is Kind.PROXY
    return {
        "metadata": {"labels": labels_of(process)},
        "spec": {
            "serviceAccountName": process.service,
            "automountServiceAccountToken": False,
            # Its variables look like settings of ours: AUTH_PORT, EGRESS_SERVICE_HOST.
            "enableServiceLinks": False,
            "priorityClassName": f"companion-{process.tier.name if process.tier else 'core'}",
            "terminationGracePeriodSeconds": grace_of(process.kind),
            # A name with two dots is whole: vendors are not looked for in the cluster first.
            "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **_spread(process),
            **({"initContainers": proxies.before(process)} if is_proxy else {}),
            "containers": [proxies.proxy(process) if is_proxy else _container(process)],
            "volumes": _volumes(process),
        },
    }


def _spread(process: Process) -> Object:
    if process.kind is Kind.PREPARE:
        return {}
    return {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector_of(process)},
                "matchLabelKeys": ["pod-template-hash"],
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    }


def _container(process: Process) -> Object:
    return locked_down(
        {
            "name": process.service,
            "image": f"{process.image}:{VERSION}",
            "args": _arguments(process),
            "env": _environment(process),
            **settings_of(process),
            **_asked(process.kind),
            "resources": needs_of(process).resources,
            "volumeMounts": [
                {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
                TMP,
            ],
        }
    )


def _arguments(process: Process) -> list[str]:
    tier = ["--tier", process.tier.name] if process.kind is Kind.WORKER and process.tier else []
    return [str(process.kind), *tier]


def _environment(process: Process) -> list[Object]:
    if process.kind is Kind.PREPARE:
        return variables(engine_files("database", "broker"))
    told = {"COMPANION_POOL": process.pool}
    if process.service == "chat" and process.kind is Kind.WEB and process.tier:
        # A pool's answers are read aloud by the same tier's pool.
        told["VOICE_INTERNAL_URL"] = internal_url(f"voice-{process.tier.name}")
    return variables(told)


def _asked(kind: Kind) -> Object:
    """Its ports, and how one learns that it has started, lives and does its work."""
    if kind is Kind.PREPARE:
        return {}
    if kind is Kind.WEB:
        return {
            "ports": ports({"http": PUBLIC_PORT, "internal": INTERNAL_PORT}),
            "startupProbe": probe(get("/healthz", "internal"), every=2, timeout=2, failures=60),
            "livenessProbe": probe(get("/healthz", "internal"), every=10, timeout=5, failures=6),
            "readinessProbe": probe(get("/readyz", "internal"), every=5, timeout=4, failures=2),
            "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        }
    alive, exec_health = get("/metrics", "metrics"), {"exec": {"command": _HEALTH}}
    return {
        "ports": ports({"metrics": METRICS_PORT}),
        # Alive is also who waits for a broker that is away, from the start on.
        "startupProbe": probe(alive, every=2, timeout=5, failures=60),
        "livenessProbe": probe(alive, every=20, timeout=5, failures=6),
        "readinessProbe": probe(exec_health, every=20, timeout=5, failures=3),
    }


def _volumes(process: Process) -> list[Object]:
    room = _ROOM.get((process.service, process.kind), "128Mi")
    tmp = {"name": "tmp", "emptyDir": {"sizeLimit": room}}
    if process.kind is Kind.PROXY:
        return [*proxies.volumes(), tmp]
    return [_secrets_of(process.service), tmp]


def _secrets_of(service: str) -> Object:
    """A service's secrets as files. Without them it starts, and says what is missing."""
    return {
        "name": "secrets",
        "secret": {"secretName": service, "optional": True, "defaultMode": 0o440},
    }
