"""Everything kept about a user: what they pay for and what they have used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.billing.actions.list_usage import ExportUsage
from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.ledger import Entry
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Subscription
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class ExportUser:
    """What a user gets who asks for all their data."""

    unit_of_work: NewUnitOfWork
    show_subscription: ShowSubscription
    export_usage: ExportUsage

    async def subscription(self, user_id: UserId) -> Subscription:
        return await self.show_subscription(user_id)

    async def changes(self, user_id: UserId) -> Sequence[Subscription]:
        async with self.unit_of_work() as work:
            return await work.subscriptions.changes_of(user_id)

    def records(self, user_id: UserId) -> AsyncIterator[Sequence[Entry]]:
        """Page by page, the newest first."""
        return self.export_usage(user_id, period=Period.between(None, None), after=None, most=None)
