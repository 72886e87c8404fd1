"""What a payment provider tells takes effect: once, in whatever order it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeAlias

import structlog

from services.billing.actions._keep_subscription import keep_step, take_up_kept
from services.billing.actions._settle_payment import PAYABLE, settle_order, settle_renewal
from services.billing.domain.billing_cycle import (
    Rules,
    ending,
    held_until,
    paid,
    payment_failed,
    resumed,
)
from services.billing.domain.calendar import whole_second
from services.billing.domain.charge import ChargeKind
from services.billing.domain.payment import (
    News,
    NewsKind,
    Payer,
    Payment,
    PaymentId,
    PaymentKind,
    PaymentState,
    Wish,
)
from services.billing.domain.ports import NewUnitOfWork, Payments, UnitOfWork
from services.billing.domain.subscription import Subscription
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass

log = structlog.get_logger(__name__)

# An event can become visible in a payment provider's list after a newer one.
_LATE_EVENTS = timedelta(minutes=5)

_Handler: TypeAlias = "Callable[[UnitOfWork, News, datetime, Rules], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class ReceivePaymentNews:
    """One fact of a payment provider, and its effect in the same transaction."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    rules: Rules

    async def __call__(self, news: News) -> bool:
        """False when it was known."""
        async with self.unit_of_work() as work:
            if not await work.payments.note(news):
                return False
            await _HANDLERS[news.kind](work, news, self.clock.now(), self.rules)
        return True


@dataclass(frozen=True, slots=True)
class ReceivePaymentDelivery:
    """What a payment provider delivers to our door."""

    payments: Payments
    receive: ReceivePaymentNews

    async def __call__(self, body: bytes, signature: str | None) -> bool:
        """False when it was known or means nothing to us. Raises BadWebhookSignature,
        WebhooksNotOffered or PaymentsUnavailable."""
        news = await self.payments.read(body, signature)
        return news is not None and await self.receive(news)


@dataclass(frozen=True, slots=True)
class CatchUpOnPayments:
    """Read the payment provider's own list of what happened: what it could not deliver is there."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    payments: Payments
    receive: ReceivePaymentNews

    async def __call__(self) -> int:
        """Answers how many facts had not come by themselves. Raises PaymentsUnavailable."""
        name, found = self.payments.name, 0
        async with self.unit_of_work() as work:
            cursor = await work.payments.cursor(name)
        async for event_id, happened_at, news in self.payments.news_since(cursor):
            if news is not None and await self.receive(news):
                found += 1
            if happened_at < self.clock.now() - _LATE_EVENTS:
                async with self.unit_of_work() as work:
                    await work.payments.move_cursor(name, event_id, happened_at)
        return found


async def _order_paid(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    """Of two subscriptions at the payment provider's one is to end: the one that changed nothing,
    or the one that was paid by until now."""
    order = await work.payments.get(news.order_id) if news.order_id else None
    if order is None or news.customer is None:
        return
    received = news.amount_microusd
    step = await settle_order(
        work, order.id, now, rules, by=order.asked_by, received_microusd=received
    )
    again = await _note_paid_again(work, news, order.id, now)
    if news.subscription is None:
        return
    known = await work.payments.hold_payer(order.holder)
    if known is not None and known.subscription not in (None, news.subscription):
        settled = await work.payments.get(order.id)
        took_effect = settled is not None and settled.state is PaymentState.PAID
        if order.state not in PAYABLE or not took_effect:
            if await work.payments.note_spare(_as_spare(known, news)) and not again:
                _tell_paid_twice(news, order, order.id)
            return
        await work.payments.note_spare(known)
        charges = step.charges if step is not None else ()
        if any(charge.kind is ChargeKind.PRORATION_CREDIT for charge in charges):
            # What is left of the one known before was given back: who paid for it paid for both.
            before = await work.payments.set_aside(order.holder, news.provider, but=order.id)
            _tell_paid_twice(news, order, before)
    await _link(work, news, order)


async def _note_paid_again(
    work: UnitOfWork, news: News, order_id: PaymentId, now: datetime
) -> bool:
    """A payment provider collected for what was paid by hand: the billing team gives it back."""
    order = await work.payments.get(order_id)
    if order is None or order.provider == news.provider or not news.amount_microusd:
        return False
    if news.reference is None or await work.payments.by_reference(news.provider, news.reference):
        return False
    unused = replace(
        order.settled(PaymentState.UNUSED, now),
        id=PaymentId(uuid7()),
        provider=news.provider,
        amount_microusd=news.amount_microusd,
        created_at=now,
        reference=news.reference,
        checkout_url=None,
        base_revision=None,  # it is a part of nothing that is collected later
    )
    await work.payments.add(unused)
    _tell_paid_twice(news, order, unused.id)
    return True


def _tell_paid_twice(news: News, order: Payment, payment: PaymentId | None) -> None:
    log.error(
        "paid_twice", provider=news.provider, holder=str(order.holder), payment=str(payment or "")
    )


async def _link(work: UnitOfWork, news: News, order: Payment) -> None:
    """Remember by which customer of the payment provider's the holder pays from now on."""
    known = await work.payments.payer(order.holder)
    told = Wish(order.tier_name or "", order.seats or 1, ending=False)
    payer = Payer(
        holder=order.holder,
        is_organisation=order.is_organisation,
        provider=news.provider,
        customer=news.customer or "",
        subscription=news.subscription,
        item=news.item or (known.item if known and known.customer == news.customer else None),
        told=told,
        last_told_at=None,
    )
    if known is not None and known.subscription == news.subscription:
        payer = replace(payer, last_told_at=known.last_told_at)
    await work.payments.keep_payer(payer)


async def _payer_changed(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    order = await work.payments.get(news.order_id) if news.order_id else None
    payer = await _held_payer(work, news, now, rules)
    is_news = payer is None or payer.last_told_at is None or news.happened_at >= payer.last_told_at
    if order is not None and payer is not None and _is_of(order, payer) and _fits(order, news):
        # The change was paid and we went down before we could say so.
        await settle_order(work, order.id, now, rules, by=order.asked_by)
    if payer is None or not is_news or payer.subscription != news.subscription:
        return
    present = await take_up_kept(work, payer.holder, now, rules)
    if present is None:
        return
    told = payer.told
    # Of two things within one second nobody knows the later one: then ours is told in any case.
    is_later = news.happened_at != payer.last_told_at
    if told is not None and told.ending != news.ending:
        if is_later:
            # Somebody decided so on the payment provider's page.
            await _follow_ending(work, present, news, now)
        told = replace(told, ending=news.ending)
    if told is not None and news.tier_name is not None and news.seats is not None:
        # Should it collect for something else than we sell, it will be told.
        heard = replace(told, tier_name=news.tier_name, seats=news.seats)
        told = heard if heard == told or is_later else None
    if news.is_overdue:
        await _fail(work, payer, now, rules)
    await work.payments.keep_payer(
        replace(payer, item=news.item or payer.item, told=told, last_told_at=news.happened_at)
    )


async def _follow_ending(
    work: UnitOfWork, present: Subscription, news: News, now: datetime
) -> None:
    planned_at = present.planned_at
    if planned_at is not None and news.happened_at < whole_second(planned_at):
        # Here somebody has decided since, and the payment provider will be told.
        return
    if news.ending and not present.cancels and present.is_paid:
        step = ending(present, now)
    elif not news.ending and present.cancels:
        step = resumed(present, now)
    else:
        return
    decided = replace(step.subscription, planned_at=news.happened_at)
    await keep_step(work, present, replace(step, subscription=decided), by=present.user_id)


async def _payer_ended(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    payer = await _held_payer(work, news, now, rules)
    if payer is None or payer.subscription != news.subscription:
        return
    present = await take_up_kept(work, payer.holder, now, rules)
    if present is not None and present.is_paid and not present.cancels:
        # What is paid for holds, and what is owed may be paid and not told yet; from then on nobody
        # collects.
        await keep_step(work, present, ending(present, now), by=present.user_id)
    await work.payments.keep_payer(
        replace(payer, subscription=None, item=None, told=None, last_told_at=news.happened_at)
    )


async def _invoice_paid(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    payer = await _held_payer(work, news, now, rules)
    if payer is None or news.reference is None:
        if news.is_renewal:
            log.error("renewal_of_unknown_payer", provider=news.provider, reference=news.reference)
        return
    if not news.is_renewal:
        await _note_received(work, payer, news, now, rules)
        return
    present = await take_up_kept(work, payer.holder, now, rules)
    known = await work.payments.by_reference(news.provider, news.reference)
    if known is not None and known.state in (PaymentState.PAID, PaymentState.UNUSED):
        return
    if _is_anothers(payer, news) or present is None or not present.is_paid:
        await _note_unused(work, payer, news, now)
        return
    waiting = await work.payments.open_of(payer.holder, PaymentKind.RENEWAL)
    if waiting is not None:
        receipt = replace(waiting, reference=news.reference, amount_microusd=news.amount_microusd)
        await work.payments.save(receipt)
        await settle_renewal(work, waiting.id, now, rules, by=payer.holder)
        return
    await work.payments.add(_record(payer, news, PaymentKind.RENEWAL, now))
    await keep_step(work, present, paid(present, now), by=payer.holder)


async def _note_unused(work: UnitOfWork, payer: Payer, news: News, now: datetime) -> None:
    """A payment provider collected for what nobody holds: the billing team gives it back."""
    unused = replace(_record(payer, news, PaymentKind.RENEWAL, now), state=PaymentState.UNUSED)
    await work.payments.add(unused)
    if news.subscription not in (None, payer.subscription):
        await work.payments.note_spare(_as_spare(payer, news))
    log.error(
        "renewal_of_nothing",
        provider=news.provider,
        holder=str(payer.holder),
        payment=str(unused.id),
    )


async def _note_received(
    work: UnitOfWork, payer: Payer, news: News, now: datetime, rules: Rules
) -> None:
    """A first invoice is the order's, and so is that of a change: they were settled as such, or are
    now. But the payment provider's own proration is in cents, and what it collected is what was
    paid."""
    if news.order_id is None:
        return
    seen = await work.payments.get(news.order_id)
    if seen is not None and _is_of_change(seen, payer, news):
        await settle_order(work, seen.id, now, rules, by=seen.asked_by)
    order = await work.payments.hold(news.order_id)
    if order is None or order.holder != payer.holder or order.reference is not None:
        return
    if order.provider != news.provider:
        await _note_paid_again(work, news, order.id, now)
        return
    if order.state in PAYABLE:
        # Of a subscription that nobody pays by any more.
        has_grown = await work.payments.has_grown(order)
        order = order.settled(PaymentState.PAID if has_grown else PaymentState.UNUSED, now)
    received = replace(order, reference=news.reference, amount_microusd=news.amount_microusd)
    await work.payments.save(received)


async def _invoice_failed(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    payer = await _payer(work, news)
    if payer is None or not news.is_renewal or news.reference is None:
        return
    if _is_anothers(payer, news):
        return
    known = await work.payments.by_reference(news.provider, news.reference)
    # An older failure of an invoice that was paid since.
    if known is None or known.state is not PaymentState.PAID:
        await _fail(work, payer, now, rules)


async def _fail(work: UnitOfWork, payer: Payer, now: datetime, rules: Rules) -> None:
    present = await take_up_kept(work, payer.holder, now, rules)
    if present is not None:
        failed = payment_failed(present, now)
        step = replace(failed, holds_until=held_until(failed.subscription, rules))
        await keep_step(work, present, step, by=payer.holder)


async def _paid_back(work: UnitOfWork, news: News, now: datetime, _rules: Rules) -> None:
    """Money that went back changes no tier by itself: the billing team decides."""
    payer = await _payer(work, news)
    if payer is None or news.reference is None:
        return
    kind = PaymentKind.REFUND if news.kind is NewsKind.REFUNDED else PaymentKind.DISPUTE
    known = await work.payments.by_reference(news.provider, news.reference)
    told = _record(payer, news, kind, news.happened_at)
    if known is None:
        await work.payments.add(replace(told, created_at=now))
    else:
        # A payment provider tells all that has gone back so far, and what came again is not gone:
        # its newest word counts, and within one second the larger sum.
        since = known.settled_at or known.created_at
        if (news.happened_at, -told.amount_microusd) <= (since, -known.amount_microusd):
            return
        newest = replace(known, amount_microusd=told.amount_microusd, settled_at=news.happened_at)
        await work.payments.save(newest)
    is_news = known is None or known.amount_microusd != told.amount_microusd
    if kind is PaymentKind.REFUND and is_news and news.is_whole:
        # Paid back as it had come, where that is sure: it waits for nobody any more. A part of
        # another payment may come to the same.
        await work.payments.settle_unused(payer.holder, news.provider, news.amount_microusd)


async def _payer(work: UnitOfWork, news: News) -> Payer | None:
    return await work.payments.payer_of(news.provider, news.customer) if news.customer else None


async def _held_payer(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> Payer | None:
    """With the subscription, so that of two facts at once the second knows what the first left."""
    payer = await _payer(work, news)
    if payer is None:
        return None
    await take_up_kept(work, payer.holder, now, rules)
    return await work.payments.hold_payer(payer.holder)


def _is_anothers(payer: Payer, news: News) -> bool:
    """Of another subscription at the payment provider's than the one that is paid by."""
    known = payer.subscription
    return None not in (known, news.subscription) and known != news.subscription


def _as_spare(payer: Payer, news: News) -> Payer:
    return replace(
        payer,
        provider=news.provider,
        customer=news.customer or payer.customer,
        subscription=news.subscription,
        item=None,
    )


def _is_of(order: Payment, payer: Payer) -> bool:
    return order.holder == payer.holder and order.state is PaymentState.OPEN


def _is_of_change(order: Payment, payer: Payer, news: News) -> bool:
    """An order without a page, within what is paid by, or was until it ended: the answer to our
    asking for it got lost, and another wish may have taken its place since."""
    if payer.subscription not in (None, news.subscription):
        return False
    waits = order.state in PAYABLE and order.reference is None
    return waits and (order.holder, order.provider) == (payer.holder, news.provider)


def _fits(order: Payment, news: News) -> bool:
    return (order.tier_name, order.seats) == (news.tier_name, news.seats) and not news.is_overdue


def _record(payer: Payer, news: News, kind: PaymentKind, now: datetime) -> Payment:
    sign = 1 if kind is PaymentKind.RENEWAL else -1
    return Payment(
        id=PaymentId(uuid7()),
        holder=payer.holder,
        is_organisation=payer.is_organisation,
        kind=kind,
        state=PaymentState.PAID,
        provider=news.provider,
        amount_microusd=sign * news.amount_microusd,
        asked_by=payer.holder,
        created_at=now,
        reference=news.reference,
        settled_at=now,
    )


_HANDLERS: Mapping[NewsKind, _Handler] = {
    NewsKind.ORDER_PAID: _order_paid,
    NewsKind.PAYER_CHANGED: _payer_changed,
    NewsKind.PAYER_ENDED: _payer_ended,
    NewsKind.INVOICE_PAID: _invoice_paid,
    NewsKind.INVOICE_FAILED: _invoice_failed,
    NewsKind.REFUNDED: _paid_back,
    NewsKind.DISPUTED: _paid_back,
    NewsKind.REINSTATED: _paid_back,
}
