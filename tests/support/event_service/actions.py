"""The one verb of the test service, and the faults that a test asks for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from shared.db.database import Database
from shared.errors import Conflict
from shared.events import Fact
from shared.events.usage import UsageRecorded
from tests.support.event_service.storage import (
    ScribeWork,
    happens_first,
    is_open,
    note_delivery,
)


class Declined(Conflict):
    """An expected failure that trying again does not mend."""

    code = "declined_by_scribe"


@dataclass(frozen=True, slots=True)
class WriteDown:
    """Write each usage down, once.

    The word before the colon of an event's `model` is a fault: `poison`, `declined`, `gate`,
    `killer`, or `child|worker` `-dies-` `before-commit|after-commit`. What follows is its name.
    """

    database: Database

    async def __call__(self, facts: Sequence[Fact[UsageRecorded]]) -> None:
        await note_delivery(self.database, [fact.id for fact in facts])
        faults = {fact.event.model for fact in facts}
        for fault in sorted(faults):
            await self._before(fault)
        async with ScribeWork(self.database) as work:
            unseen = await work.unseen(fact.id for fact in facts)
            await work.write([(fact.id, fact.tier) for fact in facts if fact.id in unseen])
            for fault in faults:
                await self._die(fault, "before-commit")
        for fault in faults:
            await self._die(fault, "after-commit")

    async def _before(self, fault: str) -> None:
        kind = fault.partition(":")[0]
        if kind == "poison":
            raise ValueError("poisonous")
        if kind == "declined":
            raise Declined("Never.")
        if kind == "killer":
            os.kill(os.getpid(), signal.SIGKILL)
        while kind == "gate" and not await is_open(self.database, fault):
            await asyncio.sleep(0.02)

    async def _die(self, fault: str, moment: str) -> None:
        kind = fault.partition(":")[0]
        if not kind.endswith(f"-dies-{moment}") or not await happens_first(self.database, fault):
            return
        if kind.startswith("worker"):
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Tick:
    """Leave a row: the clock has come by."""

    database: Database

    async def __call__(self) -> None:
        await self.database.execute("insert into tick default values")


@dataclass(frozen=True, slots=True)
class Actions:
    """What the test service can do."""

    write_down: WriteDown
    tick: Tick
