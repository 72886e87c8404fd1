"""What keeps a running turn from being taken for a lost one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from services.chat import wiring
from services.chat.actions.renew_leases import RenewLeases
from shared.background import repeated, running_beside
from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.ids import UserId


class Running:
    """One turn that runs."""

    def progress(self) -> dict[UUID, tuple[int, str | None]]:
        return {UUID(int=1): (5, None)}

    def reservations(self) -> list[tuple[UserId, UUID]]:
        return [(UserId(UUID(int=2)), UUID(int=1))]


class Stalled:
    """Limits that never answer."""

    async def renew(self, reservations: Collection[tuple[UserId, UUID]]) -> None:
        await asyncio.Event().wait()


class Turns:
    """A storage that fails twice before it is back."""

    def __init__(self) -> None:
        self.tries: list[Exception | None] = [DependencyUnavailable("database"), ValueError(), None]
        self.renewed = asyncio.Event()

    async def renew(self, progress: Mapping[Any, Any], until: datetime) -> None:
        failure = self.tries.pop(0) if self.tries else None
        if failure is not None:
            raise failure
        self.renewed.set()


async def test_holds_are_renewed_whatever_becomes_of_the_limits_and_of_a_try() -> None:
    turns, running = Turns(), Running()
    wired: Any = SimpleNamespace(running=running, admission=Stalled())
    lease = timedelta(seconds=30)
    renew: Any = RenewLeases(turns, running, SystemClock(), lease)  # type: ignore[arg-type]
    async with (
        asyncio.timeout(2),
        running_beside(
            repeated(partial(wiring._renew_places, wired), pause_seconds=0.001),
            repeated(renew, pause_seconds=0.001),
        ),
    ):
        await turns.renewed.wait()
    assert turns.tries == []
