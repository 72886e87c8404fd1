"""THE table of what runs: one Deployment, one name each, the same as in the compose file.

Services and tiers come from the tables that everything else reads; a new tier is a new pool here.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from deploy.companion.programs import POOLED, SERVICES
from shared.tiers import TIERS, Tier
from shared.values import dataclass

TIERED_WORKERS = ("billing",)
"""Services whose queues are worked off by a worker for each tier."""

ALL_TIERS = "all"


class Kind(StrEnum):
    """What a process does for its service."""

    WEB = "web"
    WORKER = "worker"
    BEAT = "beat"
    RELAY = "relay"
    PREPARE = "prepare"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Process:
    """One row. A proxy is its own service; without a tier it serves all of them."""

    name: str
    service: str
    kind: Kind
    tier: Tier | None = None

    @property
    def pool(self) -> str:
        """Which users it serves: a tier's, or everybody."""
        return self.tier.name if self.tier else ALL_TIERS

    @property
    def is_pool(self) -> bool:
        """Whether it is one of several that answer for its service."""
        return self.kind is Kind.WEB and self.tier is not None

    @property
    def image(self) -> str:
        """The repository that its image comes from."""
        return "envoyproxy/envoy" if self.kind is Kind.PROXY else f"companion/{self.service}"


GATEWAY = Process("gateway", "gateway", Kind.PROXY)
EGRESS = Process("egress", "egress", Kind.PROXY)


def processes() -> list[Process]:
    """Everything that runs all the time."""
    return [
        GATEWAY,
        EGRESS,
        *(process for service in SERVICES for process in _of_service(service)),
    ]


def preparations() -> list[Process]:
    """What runs once before each rollout."""
    return [Process(f"{service}-prepare", service, Kind.PREPARE) for service in SERVICES]


def tiers() -> list[Tier]:
    """The tiers, the smallest first."""
    return sorted(TIERS.values(), key=lambda tier: tier.rank)


def _of_service(service: str) -> Iterator[Process]:
    yield from _each(service, service, Kind.WEB, tiered=service in POOLED)
    worker = f"{service}-worker"
    yield from _each(worker, service, Kind.WORKER, tiered=service in TIERED_WORKERS)
    yield Process(f"{service}-beat", service, Kind.BEAT)
    yield Process(f"{service}-relay", service, Kind.RELAY)


def _each(name: str, service: str, kind: Kind, *, tiered: bool) -> Iterator[Process]:
    if not tiered:
        yield Process(name, service, kind)
        return
    for tier in tiers():
        yield Process(f"{name}-{tier.name}", service, kind, tier)
