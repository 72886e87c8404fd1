"""The billing team has seen the money that somebody was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from services.billing.actions._settle_payment import settle_order, settle_renewal
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.errors import PaymentNotFound
from services.billing.domain.payment import BY_HAND, PaymentId, PaymentKind
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Subscription
from services.billing.domain.tax import MICRODOLLARS_A_CENT, TaxRules, gross_of
from shared.clock import Clock
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class MarkPaid:
    """The billing team has seen the money."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    rules: Rules
    tax: TaxRules

    async def __call__(
        self, payment_id: PaymentId, *, by: UserId, received_microusd: int | None = None
    ) -> Subscription:
        """`received_microusd`: what came, where it is not what was asked for with its tax. Raises
        PaymentNotFound."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            payment = await work.payments.get(payment_id)
            if payment is None or not payment.can_be_paid_by_hand:
                raise PaymentNotFound(payment_id)
            details = await work.details.of(payment.holder)
            # What was told to be transferred. Nobody pays parts of a cent; what they differ by is
            # in the balance.
            gross = gross_of(self.tax, details, [payment], payment.created_at)
            received = received_microusd or gross.total_cents * MICRODOLLARS_A_CENT
            if payment.kind is PaymentKind.ORDER:
                step = await settle_order(
                    work,
                    payment_id,
                    now,
                    self.rules,
                    by=by,
                    received_microusd=received,
                    provider=BY_HAND,
                )
                if step is None:
                    raise PaymentNotFound(payment_id)
                return step.subscription
            settled = await settle_renewal(
                work,
                payment.id,
                now,
                self.rules,
                by=by,
                received_microusd=received,
                provider=BY_HAND,
            )
            if settled is None:
                raise PaymentNotFound(payment_id)
            return settled
