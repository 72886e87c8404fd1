"""What a payment provider tells takes effect: once, in whatever order it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from services.billing.actions.keep_subscription import keep_step, take_up
from services.billing.actions.settle_payment import settle_order, settle_renewal
from services.billing.domain.billing_cycle import (
    Rules,
    cancelled,
    ended,
    paid,
    payment_failed,
    resumed,
)
from services.billing.domain.errors import PaymentsUnavailable
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
from services.billing.domain.subscription import Holder, State, Subscription
from shared.clock import Clock
from shared.ids import uuid7

# An event can become visible in a provider's list after a newer one.
_LATE_EVENTS = timedelta(minutes=5)

_Handler: TypeAlias = "Callable[[UnitOfWork, News, datetime, Rules], Awaitable[Payer | None]]"


@dataclass(frozen=True, slots=True)
class ReceivePaymentNews:
    """One fact of a provider, and its effect in the same transaction."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    payments: Payments
    rules: Rules

    async def __call__(self, news: News) -> bool:
        """False when it was known."""
        async with self.unit_of_work() as work:
            if not await work.payments.note(news):
                return False
            spare = await _HANDLERS[news.kind](work, news, self.clock.now(), self.rules)
        if spare is not None:
            # Should this fail, the unused payment still tells the billing team.
            with suppress(PaymentsUnavailable):
                await self.payments.tell(spare, Wish("", 1, ending=True, ended=True))
        return True


@dataclass(frozen=True, slots=True)
class ReceiveWebhook:
    """What a provider delivers to our door."""

    payments: Payments
    receive: ReceivePaymentNews

    async def __call__(self, body: bytes, signature: str | None) -> bool:
        """False when it was known or means nothing to us. Raises BadWebhookSignature,
        WebhooksNotOffered or PaymentsUnavailable."""
        news = await self.payments.read(body, signature)
        return news is not None and await self.receive(news)


@dataclass(frozen=True, slots=True)
class CatchUpOnPayments:
    """Read the provider's own list of what happened: whatever it could not deliver is there."""

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


async def _order_paid(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> Payer | None:
    """Answers a second subscription of the provider's that nobody needs."""
    order = await work.payments.get(news.order_id) if news.order_id else None
    if order is None or news.customer is None:
        return None
    received = news.amount_microusd
    await settle_order(work, order.id, now, rules, by=order.asked_by, received_microusd=received)
    if news.subscription is None:
        return None
    known = await work.payments.payer(order.holder)
    settled = await work.payments.get(order.id)
    is_spare = settled is not None and settled.state is PaymentState.UNUSED
    if is_spare and known is not None and known.subscription not in (None, news.subscription):
        return replace(known, subscription=news.subscription, item=None)
    await _link(work, news, order)
    return None


async def _link(work: UnitOfWork, news: News, order: Payment) -> None:
    """Remember by which customer of the provider's the holder pays from now on."""
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
    payer = await _payer(work, news)
    is_news = payer is None or payer.last_told_at is None or news.happened_at >= payer.last_told_at
    if order is not None and payer is not None and _is_of(order, payer) and _fits(order, news):
        # The change was paid and we went down before we could say so.
        await settle_order(work, order.id, now, rules, by=order.asked_by)
    if payer is None or not is_news or payer.subscription != news.subscription:
        return
    present, _prices = await take_up(work, _holder(payer), now, rules)
    told = payer.told
    if told is not None and told.ending != news.ending:
        # Somebody decided so on the provider's page.
        await _follow_ending(work, present, news, now)
        told = replace(told, ending=news.ending)
    if told is not None and news.tier_name is not None and news.seats is not None:
        # Should it collect for something else than we sell, it will be told.
        told = replace(told, tier_name=news.tier_name, seats=news.seats)
    if news.is_overdue:
        await _fail(work, payer, now, rules)
    await work.payments.keep_payer(
        replace(payer, item=news.item or payer.item, told=told, last_told_at=news.happened_at)
    )


async def _follow_ending(
    work: UnitOfWork, present: Subscription, news: News, now: datetime
) -> None:
    if news.ending and not present.cancels and present.is_paid:
        await keep_step(work, present, cancelled(present, now), by=present.user_id)
    elif not news.ending and present.cancels:
        await keep_step(work, present, resumed(present, now), by=present.user_id)


async def _payer_ended(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    payer = await _payer(work, news)
    if payer is None or payer.subscription != news.subscription:
        return
    present, _prices = await take_up(work, _holder(payer), now, rules)
    if present.state is State.PAST_DUE:
        await keep_step(work, present, ended(present, now), by=present.user_id)
    elif present.is_paid and not present.cancels:
        # What is paid for holds; from then on nobody collects.
        await keep_step(work, present, cancelled(present, now), by=present.user_id)
    await work.payments.keep_payer(
        replace(payer, subscription=None, item=None, told=None, last_told_at=news.happened_at)
    )


async def _invoice_paid(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    payer = await _payer(work, news)
    if payer is None or news.reference is None:
        return
    if not news.is_renewal:
        await _note_received(work, payer, news)
        return
    present, _prices = await take_up(work, _holder(payer), now, rules)
    known = await work.payments.by_reference(news.provider, news.reference)
    if known is not None and known.state is PaymentState.PAID:
        return
    waiting = await work.payments.open_of(payer.holder, PaymentKind.RENEWAL)
    if waiting is not None:
        receipt = replace(waiting, reference=news.reference, amount_microusd=news.amount_microusd)
        await work.payments.save(receipt)
        await settle_renewal(work, waiting.id, now, rules, by=payer.holder)
        return
    await work.payments.add(_record(payer, news, PaymentKind.RENEWAL, now))
    await keep_step(work, present, paid(present, now), by=payer.holder)


async def _note_received(work: UnitOfWork, payer: Payer, news: News) -> None:
    """A first invoice is the order's, and so is that of a change: they were settled as such. But
    the provider's own proration is in cents, and what it collected is what was paid."""
    order = await work.payments.hold(news.order_id) if news.order_id else None
    if order is None or order.holder != payer.holder or order.reference is not None:
        return
    received = replace(order, reference=news.reference, amount_microusd=news.amount_microusd)
    await work.payments.save(received)


async def _invoice_failed(work: UnitOfWork, news: News, now: datetime, rules: Rules) -> None:
    payer = await _payer(work, news)
    if payer is None or not news.is_renewal or news.reference is None:
        return
    known = await work.payments.by_reference(news.provider, news.reference)
    # An older failure of an invoice that was paid since.
    if known is None or known.state is not PaymentState.PAID:
        await _fail(work, payer, now, rules)


async def _fail(work: UnitOfWork, payer: Payer, now: datetime, rules: Rules) -> None:
    present, _prices = await take_up(work, _holder(payer), now, rules)
    await keep_step(work, present, payment_failed(present, now), by=payer.holder)


async def _paid_back(work: UnitOfWork, news: News, now: datetime, _rules: Rules) -> None:
    """Money that went back changes no tier by itself: the billing team decides."""
    payer = await _payer(work, news)
    if payer is None or news.reference is None:
        return
    kind = PaymentKind.REFUND if news.kind is NewsKind.REFUNDED else PaymentKind.DISPUTE
    known = await work.payments.by_reference(news.provider, news.reference)
    if known is None:
        await work.payments.add(_record(payer, news, kind, now))
    elif -news.amount_microusd < known.amount_microusd:
        # A provider tells all that was refunded so far.
        await work.payments.save(replace(known, amount_microusd=-news.amount_microusd))


async def _payer(work: UnitOfWork, news: News) -> Payer | None:
    return await work.payments.payer_of(news.provider, news.customer) if news.customer else None


def _holder(payer: Payer) -> Holder:
    return Holder(payer.holder, payer.is_organisation)


def _is_of(order: Payment, payer: Payer) -> bool:
    return order.holder == payer.holder and order.state is PaymentState.OPEN


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
}
