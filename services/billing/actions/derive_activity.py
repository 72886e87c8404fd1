"""Keep the rollups of the billing team's analytics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from services.billing.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass

_MOST_STEPS = 200


@dataclass(frozen=True, slots=True)
class DeriveActivity:
    """Count what got its link since the last time: each record once, whenever it came.

    It follows the ledger's chains and not the intake, which it would slow down.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> int:
        """Answers how many records were counted."""
        counted = 0
        for _ in range(_MOST_STEPS):
            records = await self._step()
            counted += records
            if not records:
                break
        return counted

    async def _step(self) -> int:
        async with self.unit_of_work() as work:
            if not await work.activity.take_turn():
                return 0
            return await work.activity.take_up()


@dataclass(frozen=True, slots=True)
class NoteNewUsers:
    """Remember when users registered: that is when they are first seen."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, users: Sequence[tuple[UserId, datetime]]) -> None:
        async with self.unit_of_work() as work:
            await work.activity.note_registered(
                [(user, at.astimezone(UTC).date()) for user, at in users]
            )
