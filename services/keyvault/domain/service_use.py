"""How much services use users' keys: what is usual, what each may have, and when it is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from uuid import uuid4

from services.keyvault.domain.errors import ServiceRateReached
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class UseLimits:
    """What is usual; 0 lifts a limit. Every limit counts the uses of all processes together."""

    uses_per_second: int = 0  # of one service
    uses_per_user_minute: int = 0
    users_per_window: int = 0  # of one service
    window: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class ServiceStop:
    """From now on a service gets no key, until an operator lifts it."""

    service: str
    stopped_at: datetime
    stopped_by: str
    reason: str
    resumed_at: datetime | None = None
    resumed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a service stands, in the eyes of one process.

    `users` were served within the window; `elsewhere` are the uses per second that the other
    processes told of, `processes` how many there are.
    """

    service: str
    users: int = 0
    elsewhere: int = 0
    processes: int = 0
    stop: ServiceStop | None = None

    def is_unusual(self, limits: UseLimits) -> bool:
        """Whether it must be stopped: it used the keys of more users than is usual."""
        return 0 < limits.users_per_window < self.users and self.stop is None


@dataclass(slots=True)
class Tally:
    """What one process gave away since it last told the others."""

    since: datetime
    uses: Counter[str] = field(default_factory=Counter)
    users: dict[str, set[UserId]] = field(default_factory=dict)

    def per_second(self, at: datetime) -> Mapping[str, int]:
        """Uses by service, as they came in a second."""
        seconds = max(1.0, (at - self.since).total_seconds())
        return {service: round(uses / seconds) for service, uses in self.uses.items()}


class UseMeter:
    """Counts what this process gives to services, and stops at its share; one per process.

    A share is what the limit leaves beside the others' uses, and never less than an equal part.
    So all processes together may pass the limit for as long as news of each other takes, a second
    or two, and none is ever starved by another.
    """

    def __init__(self, limits: UseLimits, at: datetime) -> None:
        self.process_id = uuid4()
        self._limit = limits.uses_per_second
        self._shares: dict[str, int] = {}
        self._second = 0
        self._in_second: Counter[str] = Counter()
        self._tally = Tally(at)

    def admit(self, service: str, at: datetime) -> None:
        """Count one use. Raises ServiceRateReached."""
        second = int(at.timestamp())
        if second != self._second:
            self._second, self._in_second = second, Counter()
        if self._limit > 0 and self._in_second[service] >= self._shares.get(service, self._limit):
            raise ServiceRateReached
        self._in_second[service] += 1
        self._tally.uses[service] += 1

    def served(self, service: str, user_id: UserId) -> None:
        """A key was given for this user."""
        self._tally.users.setdefault(service, set()).add(user_id)

    def take(self, at: datetime) -> Tally:
        """What was counted since the last time."""
        taken, self._tally = self._tally, Tally(at)
        return taken

    def put_back(self, tally: Tally) -> None:
        """It could not be told: it counts on."""
        now = self._tally
        now.since = min(now.since, tally.since)
        now.uses += tally.uses
        for service, users in tally.users.items():
            now.users.setdefault(service, set()).update(users)

    def learn(self, standings: Iterable[Standing]) -> None:
        """Work out this process's share beside the others."""
        for standing in standings:
            equal = -(-self._limit // max(1, standing.processes))
            self._shares[standing.service] = max(equal, self._limit - standing.elsewhere)
