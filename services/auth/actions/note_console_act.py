"""Note what was done on the console, past every door."""

from __future__ import annotations

from typing import Any

from services.auth.domain.audit import AuditEntry
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class NoteConsoleAct:
    """For acts of the operators that touch no account, such as on the signing keys."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, action: str, **facts: Any) -> None:
        entry = AuditEntry(uuid7(), self.clock.now(), action, None, None, None, facts)
        async with self.unit_of_work() as work:
            await work.audit.note(entry)
