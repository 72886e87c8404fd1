"""What services outside the suite told that can't be counted, one by one; a named person may say
that nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.billing.domain.errors import HeldUsageNotFound
from services.billing.domain.outside_usage import HeldEvent
from services.billing.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListHeldUsage:
    """What is held, by reporter, source and id."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, *, after: tuple[UUID, str, str] | None, most: int
    ) -> Sequence[HeldEvent]:
        async with self.unit_of_work() as work:
            return await work.outside.held_events(after=after, most=most)


@dataclass(frozen=True, slots=True)
class RefuseHeldUsage:
    """Nobody will put it right: it keeps no month open any more. It stays in the books with who
    said so and why, and its id can still be told, well."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, reporter: UserId, key: tuple[str, str], *, by: UserId, reason: str
    ) -> None:
        """`key`: the event's source and id. Raises HeldUsageNotFound."""
        async with self.unit_of_work() as work:
            if not await work.outside.refuse_held(reporter, key, by=by, reason=reason):
                raise HeldUsageNotFound
