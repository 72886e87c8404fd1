"""What is known about each process of the Procfile, by its name."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

from shared.tiers import TIERS
from shared.values import dataclass

SERVICES = ("auth", "keyvault", "chat", "voice", "billing")
POOLED = ("chat", "voice")
"""Services that may run as a pool for each tier: `chat-pro` serves the users of that tier alone."""

PROXIES = ("egress", "gateway")


class Stage(IntEnum):
    """Processes of a stage start at once, and after all of the stage before; they stop in turn."""

    ENGINES = 1
    SERVICES = 2
    SIMULATOR = 3
    EDGE = 4


class Kind(IntEnum):
    """What sort of process this is, and so how it is started, asked and stopped."""

    POSTGRES = 1
    VALKEY = 2
    WEB = 3
    WORKER = 4
    RELAY = 5
    SIMULATOR = 6
    PROXY = 7
    OTHER = 8


_STAGES = {
    Kind.POSTGRES: Stage.ENGINES,
    Kind.VALKEY: Stage.ENGINES,
    Kind.SIMULATOR: Stage.SIMULATOR,
    Kind.PROXY: Stage.EDGE,
}

# Seconds until a process that won't stop is killed. Workers finish their task for 8 seconds, and a
# web process may wait for streams that a client keeps open; PostgreSQL may have much to write.
_PATIENCE = {Kind.POSTGRES: 20, Kind.WORKER: 10, Kind.WEB: 8, Kind.PROXY: 3}


@dataclass(frozen=True, slots=True)
class Role:
    """What a process is for, derived from its name alone."""

    name: str
    kind: Kind
    service: str | None = None

    @classmethod
    def of(cls, name: str) -> Role:
        """The role of a process of this name; a name we don't know is somebody's own program."""
        fixed = {
            "postgres": Kind.POSTGRES,
            "valkey": Kind.VALKEY,
            "relay": Kind.RELAY,
            "simulator": Kind.SIMULATOR,
        }
        if name in fixed:
            return cls(name, fixed[name])
        if name in PROXIES:
            return cls(name, Kind.PROXY)
        if name in SERVICES:
            return cls(name, Kind.WEB, name)
        service, _, pool = name.partition("-")
        if service in POOLED and pool in TIERS:
            return cls(name, Kind.WEB, service)
        service = name.removesuffix("-worker")
        if service in SERVICES:
            return cls(name, Kind.WORKER, service)
        return cls(name, Kind.OTHER)

    @property
    def stage(self) -> Stage:
        """When it starts and stops."""
        return _STAGES.get(self.kind, Stage.SERVICES)

    @property
    def ports(self) -> tuple[str, ...]:
        """The names its ports are remembered by; the operator chooses the gateway's."""
        if self.kind is Kind.WEB:
            return (self.name, internal(self.name))
        if self.kind in (Kind.WORKER, Kind.RELAY) or self.name == "gateway":
            return ()
        return (self.name,)

    @property
    def stop_signal(self) -> str:
        """The signal that asks it to stop soon and cleanly."""
        # To PostgreSQL, TERM means to wait until every client has gone.
        return "INT" if self.kind is Kind.POSTGRES else "TERM"

    @property
    def stop_seconds(self) -> int:
        """How long it may take to stop."""
        return _PATIENCE.get(self.kind, 5)


def internal(service: str) -> str:
    """The name of a service's internal port."""
    return f"{service}-internal"


def instances(service: str, ports: Collection[str]) -> list[str]:
    """The processes that serve as this service, by the names of their ports: itself, or its
    pools."""
    pools = [f"{service}-{tier}" for tier in TIERS] if service in POOLED else []
    return [name for name in (service, *pools) if name in ports]
