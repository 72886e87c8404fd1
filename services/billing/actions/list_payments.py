"""What holders were asked for, what came of it, and what was left over."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.payment import Payment, PaymentId
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.tax import Gross, TaxRules, gross_of
from shared.ids import UserId
from shared.values import dataclass


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
