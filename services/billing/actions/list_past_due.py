"""Who has not paid, and all that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.billing.domain.payment import Payment, PaymentId, PaymentKind
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.subscription import Subscription
from services.billing.domain.tax import Gross, TaxRules, gross_of
from shared.ids import UserId


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


@dataclass(frozen=True, slots=True)
class Asked:
    """An order that nobody paid, and what it is with its tax."""

    order: Payment
    gross: Gross


@dataclass(frozen=True, slots=True)
class ListUnpaidOrders:
    """What a holder wished for and can still transfer the money of, the newest wish first."""

    unit_of_work: NewUnitOfWork
    tax: TaxRules

    async def __call__(
        self, holder: UserId, *, before: PaymentId | None, most: int
    ) -> Sequence[Asked]:
        async with self.unit_of_work() as work:
            orders = await work.payments.unpaid_orders(holder, before=before, most=most)
            details = await work.details.of(holder) if orders else None
        return [
            Asked(order, gross_of(self.tax, details, [order], order.created_at)) for order in orders
        ]


@dataclass(frozen=True, slots=True)
class ListUnusedPayments:
    """Payments that brought nothing about, for somebody to pay back."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, *, after: PaymentId | None, most: int) -> Sequence[Payment]:
        async with self.unit_of_work() as work:
            return await work.payments.unused(after=after, most=most)


@dataclass(frozen=True, slots=True)
class ListPayments:
    """Every payment there is, open, paid or not waited for any more, the newest first."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, *, holder: UserId | None, before: PaymentId | None, most: int
    ) -> Sequence[Payment]:
        """Of one holder, or of all."""
        async with self.unit_of_work() as work:
            return await work.payments.of(holder, before=before, most=most)
