"""Who may open a connection to whom. What is not listed here, no packet gets through.

Derived from what each process is told: its peers' URLs, the engines' URLs, and the vendors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from itertools import product

from deploy.companion.programs import POOLED, SERVICES
from deploy.k8s.processes import Kind
from shared.launch import PUBLIC_PORT
from shared.probe import INTERNAL_PORT, METRICS_PORT
from shared.values import dataclass

GATEWAY_PORT, EGRESS_PORT, PROXY_METRICS_PORT = 8080, 8081, 9102
POSTGRES_PORT, VALKEY_PORT, RABBITMQ_PORT = 5432, 6379, 5672
HTTPS, SMTPS, SUBMISSION = 443, 465, 587
TRACES_PORT = 4318

MONITORING = "monitoring"
"""The namespace of Prometheus and of the collector of traces."""

PUBLIC_ADDRESSES: Mapping[str, tuple[str, ...]] = {
    "0.0.0.0/0": (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/3",
    ),
    "::/0": ("::/127", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8"),
}
"""All addresses, and which of them are nobody's on the internet: networks of our own, neighbours,
the metadata of a cloud."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pods that are alike in whom they talk to, by their labels."""

    name: str
    labels: Mapping[str, str] = field(hash=False)
    namespace: str | None = None  # another one than ours


@dataclass(frozen=True, slots=True)
class Ports:
    """One port, or a range of them."""

    first: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """The caller may open connections to that port of the called."""

    caller: Group
    called: Group
    port: int


@dataclass(frozen=True, slots=True)
class CallOutside:
    """The caller may reach that port of any public address."""

    caller: Group
    ports: Ports


def of_service(service: str, kind: Kind) -> Group:
    """All pools and tiers of a kind of process."""
    return Group(f"{service}-{kind}", {"service": service, "kind": str(kind)})


GATEWAY = Group("gateway", {"service": "gateway"})
EGRESS = Group("egress", {"service": "egress"})
TOOLS = Group("tools", {"service": "tools"})
POSTGRES = Group("postgres", {"engine": "postgres"})
VALKEY = Group("valkey", {"engine": "valkey"})
RABBITMQ = Group("rabbitmq", {"engine": "rabbitmq"})
PROMETHEUS = Group("prometheus", {"app.kubernetes.io/name": "prometheus"}, namespace=MONITORING)
TRACES = Group(
    "traces", {"app.kubernetes.io/name": "opentelemetry-collector"}, namespace=MONITORING
)
NAMES = Group("names", {"k8s-app": "kube-dns"}, namespace="kube-system")

_LASTING = (Kind.WEB, Kind.WORKER, Kind.BEAT, Kind.RELAY)
_ENGINES: Mapping[Group, tuple[int, tuple[Kind, ...]]] = {
    POSTGRES: (POSTGRES_PORT, (*_LASTING, Kind.PREPARE)),
    # No request is answered with the broker's help, so no web process knows the way there.
    RABBITMQ: (RABBITMQ_PORT, (Kind.WORKER, Kind.BEAT, Kind.RELAY, Kind.PREPARE)),
    VALKEY: (VALKEY_PORT, (Kind.WEB, Kind.WORKER, Kind.BEAT)),
}


def own_groups() -> list[Group]:
    """The groups that all our pods fall into, each into one."""
    return [
        GATEWAY,
        EGRESS,
        *(of_service(service, kind) for service, kind in product(SERVICES, _LASTING)),
        *(of_service(service, Kind.PREPARE) for service in SERVICES),
        TOOLS,
    ]


def calls() -> list[Call]:
    """THE list."""
    return [*_of_gateway(), *_among_services(), *_of_egress(), *_to_engines(), *_watching()]


def calls_outside() -> list[CallOutside]:
    """Who reaches the internet, and there which ports."""
    auth, keyvault, billing = "auth", "keyvault", "billing"
    return [
        # Users' calls to vendors, and nobody else holds their keys.
        CallOutside(EGRESS, Ports(HTTPS)),
        # A new key is tried at its vendor.
        CallOutside(of_service(keyvault, Kind.WORKER), Ports(HTTPS)),
        # Stripe, and webhooks: those may be on 443 and on ports from 1024 on.
        CallOutside(of_service(billing, Kind.WEB), Ports(HTTPS)),
        CallOutside(of_service(billing, Kind.WEB), Ports(1024, 65535)),
        # Stripe, and the bucket that days are exported into.
        CallOutside(of_service(billing, Kind.BEAT), Ports(HTTPS)),
        # Mails.
        *(
            CallOutside(of_service(auth, kind), Ports(port))
            for kind, port in product((Kind.WORKER, Kind.BEAT), (SMTPS, SUBMISSION))
        ),
    ]


def _of_gateway() -> Iterator[Call]:
    for service in SERVICES:
        yield Call(GATEWAY, of_service(service, Kind.WEB), PUBLIC_PORT)
    # The tour, from inside.
    yield Call(TOOLS, GATEWAY, GATEWAY_PORT)
    # Personal access tokens are exchanged there.
    yield Call(GATEWAY, of_service("auth", Kind.WEB), INTERNAL_PORT)


def _among_services() -> Iterator[Call]:
    auth = of_service("auth", Kind.WEB)
    for service in SERVICES:
        # Its public keys, by which all check access tokens.
        yield Call(of_service(service, Kind.WEB), auth, PUBLIC_PORT)
        if service != "auth":
            # Health of all, and what each keeps about a user who wants to have it.
            yield Call(auth, of_service(service, Kind.WEB), INTERNAL_PORT)
    for service in ("keyvault", "voice", "billing"):
        # Who decides for an organisation.
        yield Call(of_service(service, Kind.WEB), auth, INTERNAL_PORT)
    # Answers read aloud while they are written.
    yield Call(of_service("chat", Kind.WEB), of_service("voice", Kind.WEB), INTERNAL_PORT)


def _of_egress() -> Iterator[Call]:
    for service in POOLED:
        yield Call(of_service(service, Kind.WEB), EGRESS, EGRESS_PORT)
    # The use of keys. Chat and voice themselves don't reach it.
    yield Call(EGRESS, of_service("keyvault", Kind.WEB), INTERNAL_PORT)


def _to_engines() -> Iterator[Call]:
    for engine, (port, kinds) in _ENGINES.items():
        for service, kind in product(SERVICES, kinds):
            yield Call(of_service(service, kind), engine, port)
        yield Call(TOOLS, engine, port)


def _watching() -> Iterator[Call]:
    for proxy in (GATEWAY, EGRESS):
        yield Call(PROMETHEUS, proxy, PROXY_METRICS_PORT)
    for service, kind in product(SERVICES, _LASTING):
        port = INTERNAL_PORT if kind is Kind.WEB else METRICS_PORT
        yield Call(PROMETHEUS, of_service(service, kind), port)
        yield Call(of_service(service, kind), TRACES, TRACES_PORT)
