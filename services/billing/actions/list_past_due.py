"""Who has not paid."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.payment import Payment, PaymentKind
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.subscription import Subscription
from services.billing.domain.tax import Gross, TaxRules, gross_of
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Overdue:
    """What is past due, by which payment it would be settled, and what that is with its tax."""

    subscription: Subscription
    payment: Payment | None = None
    gross: Gross | None = None


@dataclass(frozen=True, slots=True)
class ListPastDue:
    """Subscriptions past due with the payment that they wait for, by holder."""

    unit_of_work: NewUnitOfWork
    tax: TaxRules

    async def __call__(self, *, after: UserId | None, most: int) -> Sequence[Overdue]:
        async with self.unit_of_work() as work:
            overdue = await work.subscriptions.past_due(after=after, most=most)
            return [await self._with_payment(work, one) for one in overdue]

    async def _with_payment(self, work: UnitOfWork, one: Subscription) -> Overdue:
        payment = await work.payments.open_of(one.user_id, PaymentKind.RENEWAL)
        if payment is None:
            return Overdue(one)
        details = await work.details.of(one.user_id)
        return Overdue(one, payment, gross_of(self.tax, details, [payment], payment.created_at))
