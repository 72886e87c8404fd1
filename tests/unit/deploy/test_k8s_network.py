"""Who may talk to whom in a cluster: the policies are asked, for every pair of pods."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import product

import pytest

from tests.support.k8s import OVERLAYS, built, of_kind, pods
from tests.support.network_policies import Outside, Pod, Policies

PUBLIC = Outside("93.184.216.34")
PUBLIC_6 = Outside("2606:2800:220:1::1")
ENGINES_OUTSIDE = Outside("192.0.2.10")
PORTS = (8000, 8001, 8080, 8081, 9000, 9102, 5432, 5672, 6379, 443)
WEBS = frozenset({"auth", "keyvault", "billing", "chat", "voice"})

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def _namespace(overlay: str) -> str:
    namespace = of_kind(overlay, "Namespace")[0]["metadata"]["name"]
    assert isinstance(namespace, str)
    return namespace


def _ours(overlay: str) -> list[Pod]:
    namespace = _namespace(overlay)
    return [Pod(name, pod["metadata"]["labels"], namespace) for name, pod in pods(overlay)]


def _policies(overlay: str) -> Policies:
    return Policies(of_kind(overlay, "NetworkPolicy"))


def _role(pod: Pod) -> str:
    """Of whom all tiers' pods are one: `chat`, `billing-worker`, `postgres`."""
    if "engine" in pod.labels or "service" not in pod.labels:
        return pod.name
    kind = pod.labels["kind"]
    return pod.labels["service"] + ("" if kind in ("web", "proxy") else f"-{kind}")


def _callers(overlay: str, called: str, port: int) -> set[str]:
    """Who of ours reaches that port of any pod of a role."""
    policies, ours = _policies(overlay), _ours(overlay)
    return {
        _role(caller)
        for caller, other in product(ours, ours)
        if _role(other) == called and policies.allow(caller, other, port)
    }


def test_every_policy_is_in_our_namespace(overlay: str) -> None:
    names = {one["metadata"].get("namespace") for one in of_kind(overlay, "NetworkPolicy")}
    assert names == {_namespace(overlay)}


def test_blocks_are_as_a_cluster_wants_them(overlay: str) -> None:
    for policy in of_kind(overlay, "NetworkPolicy"):
        for rule in policy["spec"].get("egress") or []:
            for block in (peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer):
                for but in block.get("except", []):
                    inner, outer = ip_network(but), ip_network(block["cidr"])
                    assert inner.version == outer.version and inner != outer
                    assert inner.subnet_of(outer)  # type: ignore[arg-type]  # of one version


def test_nothing_is_open_to_a_pod_that_no_list_names(overlay: str) -> None:
    policies, stray = _policies(overlay), Pod("stray", {}, _namespace(overlay))
    others: list[Pod | Outside] = [*_ours(overlay), PUBLIC, Outside("169.254.169.254")]
    reached = {
        (one, port)
        for one, port in product(others, PORTS)
        if policies.allow(stray, one, port)
        if not (isinstance(one, Pod) and one.name == "gateway" and port == 8080)
    }
    assert not reached


def test_only_the_gateway_is_public_and_there_one_port(overlay: str) -> None:
    policies = _policies(overlay)
    neighbour = Pod("neighbour", {"app.kubernetes.io/part-of": "companion"}, "another")
    for stranger in (PUBLIC, PUBLIC_6, Outside("10.0.0.7"), neighbour):
        open_ = {
            (pod.name, port)
            for pod, port in product(_ours(overlay), PORTS)
            if policies.allow(stranger, pod, port)
        }
        assert open_ == {("gateway", 8080)}, stranger


def test_the_use_of_keys_is_behind_the_egress(overlay: str) -> None:
    # auth asks there for health and for what is kept about a user; a key it gets only with a grant
    # that chat or voice have signed, which it can't.
    assert _callers(overlay, "keyvault", 8001) == {"egress", "auth"}
    assert _callers(overlay, "egress", 8081) == {"chat", "voice"}


def test_who_asks_which_service_inside(overlay: str) -> None:
    assert _callers(overlay, "auth", 8001) == {"gateway", "keyvault", "voice", "billing"}
    assert _callers(overlay, "voice", 8001) == {"auth", "chat"}
    assert _callers(overlay, "chat", 8001) == {"auth"}
    assert _callers(overlay, "billing", 8001) == {"auth"}


def test_the_public_ports_are_the_gateways_and_everybody_knows_auths_keys(overlay: str) -> None:
    for service in WEBS - {"auth"}:
        assert _callers(overlay, service, 8000) == {"gateway"}
    assert _callers(overlay, "auth", 8000) == {"gateway", *WEBS}


def test_who_reaches_the_internet(overlay: str) -> None:
    policies = _policies(overlay)
    reached = {
        (_role(pod), port)
        for pod, port, address in product(
            _ours(overlay), (25, 80, 443, 465, 587, 8443), (PUBLIC, PUBLIC_6)
        )
        if policies.allow(pod, address, port)
    }
    assert reached == {
        ("egress", 443),
        ("keyvault-worker", 443),
        ("billing", 443),
        ("billing", 8443),
        ("billing-beat", 443),
        *product(("auth-worker", "auth-beat"), (465, 587)),
    }


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "10.0.0.1", "172.20.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"]
)
def test_nobody_reaches_our_own_networks_as_if_they_were_the_internet(
    overlay: str, address: str
) -> None:
    policies = _policies(overlay)
    reached = {
        (pod.name, port)
        for pod, port in product(_ours(overlay), (80, 443, 465, 587, 5432, 8443))
        if policies.allow(pod, Outside(address), port)
    }
    assert not reached


def test_each_kind_of_process_reaches_the_engines_that_it_needs(overlay: str) -> None:
    policies, ours = _policies(overlay), _ours(overlay)
    for pod in ours:
        kind = pod.labels.get("kind", "")
        wanted = {
            5432: kind in ("web", "worker", "beat", "relay", "prepare"),
            # No request needs the broker to be answered.
            5672: kind in ("worker", "beat", "relay", "prepare"),
            6379: kind in ("web", "worker", "beat"),
        }
        engines = _engines(overlay, ours)
        found = {port: policies.allow(pod, engines[port], port) for port in wanted}
        assert found == wanted, pod.name


def _engines(overlay: str, ours: list[Pod]) -> dict[int, Pod | Outside]:
    beside_us = {pod.name: pod for pod in ours}
    ports = {5432: "postgres", 5672: "rabbitmq", 6379: "valkey"}
    if overlay == "development":
        return {port: beside_us[name] for port, name in ports.items()}
    return dict.fromkeys(ports, ENGINES_OUTSIDE)


def test_prometheus_reaches_what_it_asks_and_no_more(overlay: str) -> None:
    policies = _policies(overlay)
    prometheus = Pod("prometheus", {"app.kubernetes.io/name": "prometheus"}, "monitoring")
    for pod in _ours(overlay):
        kind = pod.labels.get("kind")
        asked = {"web": 8001, "proxy": 9102, "worker": 9000, "beat": 9000, "relay": 9000}.get(
            str(kind)
        )
        reached = {port for port in PORTS if policies.allow(prometheus, pod, port)}
        assert reached - ({8080} if pod.name == "gateway" else set()) == ({asked} - {None}), (
            pod.name
        )


def test_names_are_found_at_the_clusters_name_servers_alone(overlay: str) -> None:
    policies = _policies(overlay)
    servers = Pod("coredns", {"k8s-app": "kube-dns"}, "kube-system")
    others = Pod("coredns", {"k8s-app": "kube-dns"}, "another")
    for pod in _ours(overlay):
        if "kind" in pod.labels:
            assert policies.allow(pod, servers, 53, "UDP")
            assert policies.allow(pod, servers, 53)
        assert not policies.allow(pod, others, 53, "UDP")
        assert not policies.allow(pod, PUBLIC, 53, "UDP")


def test_every_policy_is_for_somebody(overlay: str) -> None:
    """A label that is misspelt selects nobody, and so protects nobody."""
    ours = [*_ours(overlay), *_pods_of(overlay, "prepare"), *_pods_of(overlay, "tools")]
    for policy in of_kind(overlay, "NetworkPolicy"):
        alone = Policies([policy])
        isolated = [
            pod
            for pod in ours
            if not alone.allow(pod, Outside("203.0.113.1"), 1)
            or not alone.allow(Outside("203.0.113.1"), pod, 1)
        ]
        assert isolated, policy["metadata"]["name"]


def _pods_of(overlay: str, part: str) -> list[Pod]:
    folder = "development" if overlay == "development" else "production"
    return [
        Pod(name, pod["metadata"]["labels"], _namespace(overlay))
        for name, pod in pods(f"{folder}/{part}")
    ]


def test_jobs_reach_what_they_prepare_and_nothing_else(overlay: str) -> None:
    policies, ours = _policies(overlay), _ours(overlay)
    engines = _engines(overlay, ours)
    for job in _pods_of(overlay, "prepare"):
        assert policies.allow(job, engines[5432], 5432)
        assert policies.allow(job, engines[5672], 5672)
        reached = [
            other.name
            for other, port in product(ours, PORTS)
            if policies.allow(job, other, port) and "engine" not in other.labels
        ]
        assert not reached and not policies.allow(job, PUBLIC, 443)


def test_operators_reach_engines_and_the_gateway_and_no_service(overlay: str) -> None:
    policies, ours = _policies(overlay), _ours(overlay)
    [tools] = _pods_of(overlay, "tools")
    for port, engine in _engines(overlay, ours).items():
        assert policies.allow(tools, engine, port)
    reached = {
        (other.name, port)
        for other, port in product(ours, PORTS)
        if policies.allow(tools, other, port) and "engine" not in other.labels
    }
    assert reached == {("gateway", 8080)} and not policies.allow(tools, PUBLIC, 443)


def test_the_gateway_of_the_suite_is_the_only_thing_shown(overlay: str) -> None:
    open_services = [
        one["metadata"]["name"]
        for one in of_kind(overlay, "Service")
        if one["spec"].get("type", "ClusterIP") != "ClusterIP"
    ]
    backends = [
        path["backend"]["service"]["name"]
        for one in built(overlay)
        if one["kind"] == "Ingress"
        for rule in one["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    assert not open_services
    assert set(backends) <= {"gateway"}


def test_a_cluster_keeps_policies_as_they_are_written(overlay: str) -> None:
    """It leaves out an empty list, and `kubectl diff` would tell of that for ever."""
    for policy in of_kind(overlay, "NetworkPolicy"):
        assert [] not in policy["spec"].values(), policy["metadata"]["name"]
