"""The billing team has seen the money that somebody was asked for."""

from __future__ import annotations

from datetime import datetime

from services.billing.actions._settle_payment import settle_order, settle_renewal
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.errors import PaymentNotFound, PaymentSettled
from services.billing.domain.payment import BY_HAND, Payment, PaymentId, PaymentKind
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.subscription import Subscription
from services.billing.domain.tax import MICRODOLLARS_A_CENT, TaxRules, gross_of
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class MarkPaid:
    """The billing team has seen the money. Each payment is booked once."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    rules: Rules
    tax: TaxRules

    async def __call__(
        self, payment_id: PaymentId, *, by: UserId, received_microusd: int | None = None
    ) -> Subscription:
        """What is held then. Raises what `booked` raises."""
        held, _payment = await self.booked(payment_id, by=by, received_microusd=received_microusd)
        return held

    async def booked(
        self, payment_id: PaymentId, *, by: UserId, received_microusd: int | None = None
    ) -> tuple[Subscription, Payment]:
        """With the payment as it stands then: `unused` where nothing came of it.

        `received_microusd`: what came, where it is not what was asked for with its tax. Raises
        PaymentNotFound or PaymentSettled.
        """
        now = self.clock.now()
        async with self.unit_of_work() as work:
            payment = await work.payments.get(payment_id)
            if payment is None:
                raise PaymentNotFound(payment_id)
            if not payment.can_be_paid_by_hand:
                raise _settled(payment)
            details = await work.details.of(payment.holder)
            # What was told to be transferred. Nobody pays parts of a cent; what they differ by is
            # in the balance.
            gross = gross_of(self.tax, details, [payment], payment.created_at)
            received = received_microusd or gross.total_cents * MICRODOLLARS_A_CENT
            held = await self._settle(work, payment, now, by=by, received_microusd=received)
            booked = await work.payments.get(payment_id) or payment
            if held is None:
                # Somebody was quicker.
                raise _settled(booked)
            return held, booked

    async def _settle(
        self,
        work: UnitOfWork,
        payment: Payment,
        now: datetime,
        *,
        by: UserId,
        received_microusd: int,
    ) -> Subscription | None:
        """None where it was settled meanwhile."""
        if payment.kind is PaymentKind.ORDER:
            step = await settle_order(
                work,
                payment.id,
                now,
                self.rules,
                by=by,
                received_microusd=received_microusd,
                provider=BY_HAND,
            )
            return None if step is None else step.subscription
        return await settle_renewal(
            work,
            payment.id,
            now,
            self.rules,
            by=by,
            received_microusd=received_microusd,
            provider=BY_HAND,
        )


def _settled(payment: Payment) -> PaymentSettled:
    return PaymentSettled(
        payment.id, payment.state.value, payment.amount_microusd, payment.settled_at
    )
