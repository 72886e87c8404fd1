"""Two people let usage on an invoice that came long after it was used; one may refuse it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from services.billing.actions.correct_usage import void_in
from services.billing.domain.aged_usage import AgedGroup, AgedUsage, HeldUsage
from services.billing.domain.errors import (
    AgedUsageChanged,
    SecondPersonNeeded,
    UsageVoidedAlready,
)
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

MOST_SHOWN = 500
# Each is a correction and an event of its own, and somebody waits for the answer.
_MOST_VOIDED = 500


@dataclass(frozen=True, slots=True)
class ListAgedUsage:
    """What waits, the oldest months first."""

    unit_of_work: NewUnitOfWork
    after: timedelta | None

    async def __call__(self) -> Sequence[AgedUsage]:
        async with self.unit_of_work() as work:
            return await work.aged.waiting(self.after, most=MOST_SHOWN)


@dataclass(frozen=True, slots=True)
class CountAgedUsage:
    """How many events wait, so that the team is told."""

    unit_of_work: NewUnitOfWork
    after: timedelta | None

    async def __call__(self) -> int:
        async with self.unit_of_work() as work:
            return await work.aged.count(self.after)


@dataclass(frozen=True, slots=True)
class ApproveAgedUsage:
    """The first approval is noted, the second one, of somebody else, has it billed.

    What comes meanwhile is another group, and waits for two people of its own.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    after: timedelta | None

    async def __call__(self, group: AgedGroup, *, by: UserId, reason: str) -> bool:
        """Whether it is released. Raises AgedUsageChanged and SecondPersonNeeded."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            held = await _held(work, group, self.after)
            if held.approved_by == by:
                raise SecondPersonNeeded
            is_second = held.approved_by is not None
            decide = work.aged.release if is_second else work.aged.approve
            await decide(held.events, by=by, at=now, reason=reason)
        return is_second


@dataclass(frozen=True, slots=True)
class RefuseAgedUsage:
    """Void it: neither the usage nor its correction is on any invoice. One person is enough, since
    it costs no customer anything."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    after: timedelta | None

    async def __call__(self, group: AgedGroup, *, by: UserId, reason: str) -> tuple[int, int]:
        """How many events are voided, and how many of a large group are left for the next call.
        Raises AgedUsageChanged."""
        async with self.unit_of_work() as work:
            held = await _held(work, group, self.after)
            # In the same work: let go in between, somebody could still release it.
            to_void = held.events[:_MOST_VOIDED]
            await work.corrections.hold(to_void)
            for event_id in to_void:
                with suppress(UsageVoidedAlready):
                    await void_in(work, event_id, reason=reason, by=by, clock=self.clock)
        voided = min(len(held.events), _MOST_VOIDED)
        return voided, len(held.events) - voided


async def _held(work: UnitOfWork, group: AgedGroup, after: timedelta | None) -> HeldUsage:
    held = await work.aged.hold(group, after)
    if held is None:
        raise AgedUsageChanged
    return held
