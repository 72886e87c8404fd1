"""Who has not paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.billing.domain.payment import Payment, PaymentId, PaymentKind
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Subscription
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class ListPastDue:
    """Subscriptions past due with the payment that they wait for, by holder."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, *, after: UserId | None, most: int
    ) -> Sequence[tuple[Subscription, Payment | None]]:
        async with self.unit_of_work() as work:
            overdue = await work.subscriptions.past_due(after=after, most=most)
            return [
                (one, await work.payments.open_of(one.user_id, PaymentKind.RENEWAL))
                for one in overdue
            ]


@dataclass(frozen=True, slots=True)
class ListUnusedPayments:
    """Payments that brought nothing about, for somebody to pay back."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, *, after: PaymentId | None, most: int) -> Sequence[Payment]:
        async with self.unit_of_work() as work:
            return await work.payments.unused(after=after, most=most)
