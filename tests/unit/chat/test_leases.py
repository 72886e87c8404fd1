"""What keeps a running turn from being taken for a lost one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from services.chat import wiring
from shared.background import repeated, running_beside
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


async def test_holds_are_renewed_whatever_becomes_of_the_limits_and_of_a_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "_RENEW_SECONDS", 0.001)
    turns = Turns()
    wired: Any = SimpleNamespace(running=Running(), admission=Stalled(), turns=turns)
    lease = timedelta(seconds=30)
    async with (
        asyncio.timeout(2),
        running_beside(
            repeated(partial(wiring._renew_places, wired), pause_seconds=0.001),
            wiring._renew_leases(wired, lease),
        ),
    ):
        await turns.renewed.wait()
    assert turns.tries == []
