"""A user's ledger entries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from services.billing.domain.ledger import Entry
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork, Position
from shared.ids import UserId
from shared.values import dataclass

EXPORT_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ListUsage:
    """A page of the user's entries, the newest first."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, user_id: UserId, *, period: Period, after: Position | None, most: int
    ) -> Sequence[Entry]:
        async with self.unit_of_work() as work:
            return await work.ledger.of_user(user_id, period=period, after=after, most=most)

    async def archived(self, user_id: UserId, period: Period) -> int:
        """How many requests of a period can't be listed any more: they lie in the archive."""
        async with self.unit_of_work() as work:
            return await work.usage_rows.archived_of(user_id, period)


@dataclass(frozen=True, slots=True)
class ExportUsage:
    """All of the user's entries, page by page: no transaction waits for a slow reader."""

    list_usage: ListUsage

    async def __call__(
        self, user_id: UserId, *, period: Period, after: Position | None, most: int | None
    ) -> AsyncIterator[Sequence[Entry]]:
        left = most
        while left is None or left > 0:
            size = EXPORT_PAGE if left is None else min(EXPORT_PAGE, left)
            page = await self.list_usage(user_id, period=period, after=after, most=size)
            yield page
            if len(page) < size:
                return
            after = (page[-1].occurred_at, page[-1].event_id)
            left = None if left is None else left - len(page)
