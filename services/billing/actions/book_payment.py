"""Money that came or went without a payment provider, such as an invoice's tax and fees."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.billing.domain.errors import (
    HolderNotFound,
    PaymentNotFound,
    PaymentReferenceUsed,
)
from services.billing.domain.payment import (
    BY_HAND,
    Booking,
    Payment,
    PaymentId,
    PaymentKind,
    PaymentState,
)
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.tax import MICRODOLLARS_A_CENT
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class BookPayment:
    """Book what the billing team has seen, once by its reference. It changes no tier."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, booking: Booking, *, by: UserId) -> tuple[Payment, bool]:
        """With whether it had been booked before. Raises HolderNotFound, PaymentNotFound or
        PaymentReferenceUsed."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            is_organisation = await work.payments.is_organisation(booking.holder)
            if is_organisation is None:
                raise HolderNotFound(booking.holder)
            payment = _payment(booking, is_organisation, by, now)
            if not await work.payments.book(payment):
                return await _booked_before(work, booking, payment), True
            settles = booking.settles
            if settles is not None and not await _settle(work, booking.holder, settles):
                raise PaymentNotFound(settles)
        return payment, False


async def _booked_before(work: UnitOfWork, booking: Booking, asked: Payment) -> Payment:
    known = await work.payments.by_reference(BY_HAND, booking.reference)
    if known is None or not _is_same(known, asked):
        raise PaymentReferenceUsed(booking.reference)
    if booking.settles is None or booking.settles == known.settles:
        return known
    # Booked at first without it: the unused payment still waits for this word.
    if known.settles is not None or not await _settle(work, booking.holder, booking.settles):
        raise PaymentReferenceUsed(booking.reference)
    told = replace(known, settles=booking.settles)
    await work.payments.save(told)
    return told


async def _settle(work: UnitOfWork, holder: UserId, payment_id: PaymentId) -> bool:
    """False when no unused payment of the holder's is called so."""
    unused = await work.payments.hold(payment_id)
    if unused is None or unused.state is not PaymentState.UNUSED or unused.holder != holder:
        return False
    await work.payments.save(
        unused.settled(PaymentState.PAID, unused.settled_at or unused.created_at)
    )
    return True


def _is_same(known: Payment, asked: Payment) -> bool:
    def said(payment: Payment) -> tuple[object, ...]:
        return payment.holder, payment.kind, payment.amount_microusd, payment.note

    return said(known) == said(asked)


def _payment(booking: Booking, is_organisation: bool, by: UserId, now: datetime) -> Payment:
    came = booking.amount_cents > 0
    return Payment(
        id=PaymentId(uuid7()),
        holder=booking.holder,
        is_organisation=is_organisation,
        kind=PaymentKind.RECEIPT if came else PaymentKind.REFUND,
        state=PaymentState.PAID,
        provider=BY_HAND,
        amount_microusd=booking.amount_cents * MICRODOLLARS_A_CENT,
        asked_by=by,
        created_at=now,
        reference=booking.reference,
        settled_at=now,
        note=booking.note,
        settles=booking.settles,
    )
