"""Stripe as an account with books of its own: what it collects for, when, and all that it tells.

No wire: the port itself. What happened waits in `untold` until a test has it told, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from services.billing.domain.errors import PaymentDeclined, PaymentsUnavailable
from services.billing.domain.payment import (
    Checkout,
    News,
    NewsKind,
    Payer,
    Payment,
    PaymentId,
    Wish,
)
from tests.support.accountant import CENT, cents, months_after

Pays = Callable[[], bool]


@dataclass
class Collected:
    """A subscription at Stripe. `order`: the metadata that its last change left there."""

    id: str
    customer: str
    holder: UUID
    tier: str
    seats: int
    anchor: datetime
    begins: datetime
    ends: datetime
    is_ending: bool = False
    is_over: bool = False
    order: PaymentId | None = None
    open_invoice: tuple[str, int] | None = None

    @property
    def terms(self) -> tuple[str, int]:
        return self.tier, self.seats


@dataclass
class Session:
    """A page to pay at."""

    order: Payment
    customer: str | None
    is_open: bool = True


@dataclass
class StripeAccount:
    """`pays`: whether a card is good for it now. `loses_answers`: it does as it is asked, and
    nobody hears of it. `is_away`: it does nothing."""

    now: Callable[[], datetime]
    price_at: Callable[[str, datetime], int]
    pays: Pays = lambda: True
    loses_answers: bool = False
    is_away: bool = False
    subscriptions: dict[str, Collected] = field(default_factory=dict)
    sessions: dict[PaymentId, Session] = field(default_factory=dict)
    collected: Counter[UUID] = field(default_factory=Counter)  # cents
    untold: list[News] = field(default_factory=list)
    changes: dict[PaymentId, bool] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid4().hex[:8])
    numbers: count[int] = field(default_factory=lambda: count(1))

    name = "stripe"
    asks_first = True
    has_checkout = True

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self.mark}_{next(self.numbers)}"

    def of(self, holder: UUID) -> list[Collected]:
        """What it still collects for."""
        found = self.subscriptions.values()
        return [one for one in found if one.holder == holder and not one.is_over]

    # What billing asks for

    async def checkout(self, order: Payment, payer: Payer | None) -> Checkout:
        self._answer()
        customer = payer.customer if payer is not None and payer.provider == self.name else None
        self.sessions.setdefault(order.id, Session(order, customer))
        self._lose()
        return Checkout(url=f"https://checkout.example/{order.id}", reference=f"cs_{order.id}")

    async def withdraw(self, order: Payment) -> None:
        self._answer()
        if order.id in self.sessions:
            self.sessions[order.id].is_open = False

    async def collect_change(self, order: Payment, payer: Payer) -> None:
        self._answer()
        if order.id not in self.changes:
            self.changes[order.id] = self._change(
                order, self.subscriptions[payer.subscription or ""]
            )
        self._lose()
        if not self.changes[order.id]:
            raise PaymentDeclined

    def _change(self, order: Payment, of: Collected) -> bool:
        now = self.now().replace(microsecond=0)
        if of.is_over:
            raise PaymentsUnavailable
        more = self._rest(order.tier_name or "", order.seats or 1, of, now)
        due = more - self._rest(of.tier, of.seats, of, now)
        if due > 0 and not self.pays():
            return False
        of.tier, of.seats, of.is_ending = order.tier_name or "", order.seats or 1, False
        of.order = order.id
        self._tell_of(of)
        self._collect(of, max(0, cents(due)), is_renewal=False)
        return True

    def _rest(self, tier: str, seats: int, of: Collected, now: datetime) -> int:
        span = Fraction(
            int((of.ends - now).total_seconds()), int((of.ends - of.begins).total_seconds())
        )
        return int(self.price_at(tier, of.begins) * seats * span)

    async def tell(self, payer: Payer, wish: Wish) -> None:
        self._answer()
        of = self.subscriptions[payer.subscription or ""]
        if wish.ended:
            self._end(of)
        elif of.is_over:
            raise PaymentsUnavailable
        else:
            of.is_ending = wish.ending
            if not wish.ending:
                of.tier, of.seats = wish.tier_name, wish.seats
            self._tell_of(of)
        self._lose()

    async def collect_again(self, payer: Payer, attempt: str) -> None:
        self._answer()
        of = self.subscriptions[payer.subscription or ""]
        if of.open_invoice is not None and not self.pay_open(of):
            raise PaymentDeclined
        self._lose()

    async def portal(self, payer: Payer) -> str:
        return "https://billing.example/"

    async def read(self, body: bytes, signature: str | None) -> News | None:
        raise NotImplementedError

    def news_since(self, cursor: str | None) -> AsyncIterator[tuple[str, datetime, News | None]]:
        raise NotImplementedError

    def _answer(self) -> None:
        if self.is_away:
            raise PaymentsUnavailable

    def _lose(self) -> None:
        if self.loses_answers:
            raise PaymentsUnavailable

    # What its customers do

    def complete(self, session: Session) -> None:
        """Somebody pays at a page."""
        session.is_open = False
        order, now = session.order, self.now().replace(microsecond=0)
        made = Collected(
            id=self._id("sub"),
            customer=session.customer or self._id("cus"),
            holder=order.holder,
            tier=order.tier_name or "",
            seats=order.seats or 1,
            anchor=now,
            begins=now,
            ends=months_after(now, 1),
        )
        self.subscriptions[made.id] = made
        self._tell_of(made)
        due = cents(self.price_at(made.tier, now) * made.seats)
        self.collected[made.holder] += due
        self._tell(
            NewsKind.ORDER_PAID,
            made,
            order_id=order.id,
            reference=f"cs_{order.id}",
            amount_microusd=due * CENT,
        )

    def end_on_its_page(self, of: Collected, *, is_ending: bool) -> None:
        """Somebody cancels, or thinks better of it, at Stripe's own page."""
        if of.is_ending is not is_ending:
            of.is_ending = is_ending
            self._tell_of(of)

    def pay_open(self, of: Collected) -> bool:
        """An open invoice is tried again."""
        assert of.open_invoice is not None
        reference, due = of.open_invoice
        if not self.pays():
            self._tell(NewsKind.INVOICE_FAILED, of, reference=reference, is_renewal=True)
            return False
        of.open_invoice = None
        self._collect(of, due, is_renewal=True, reference=reference)
        self._tell_of(of)
        return True

    # What its clock does

    def advance(self) -> None:
        """Periods end and begin, up to now."""
        for of in list(self.subscriptions.values()):
            while not of.is_over and of.ends <= self.now():
                self._turn(of)

    def _turn(self, of: Collected) -> None:
        if of.is_ending:
            self._end(of, at=of.ends)
            return
        passed = (of.ends.year - of.anchor.year) * 12 + of.ends.month - of.anchor.month
        of.begins, of.ends = of.ends, months_after(of.anchor, passed + 1)
        due = cents(self.price_at(of.tier, of.begins) * of.seats)
        reference = self._id("in")
        if self.pays():
            self._collect(of, due, is_renewal=True, reference=reference, at=of.begins)
        else:
            of.open_invoice = (reference, due)
            failed: dict[str, Any] = {"reference": reference, "is_renewal": True}
            self._tell(NewsKind.INVOICE_FAILED, of, at=of.begins, **failed)
        self._tell_of(of, at=of.begins)

    def _end(self, of: Collected, at: datetime | None = None) -> None:
        if not of.is_over:
            of.is_over = True
            self._tell(NewsKind.PAYER_ENDED, of, at=at)

    def _collect(
        self,
        of: Collected,
        due: int,
        *,
        is_renewal: bool,
        reference: str | None = None,
        at: datetime | None = None,
    ) -> None:
        self.collected[of.holder] += due
        self._tell(
            NewsKind.INVOICE_PAID,
            of,
            at=at,
            reference=reference or self._id("in"),
            amount_microusd=due * CENT,
            is_renewal=is_renewal,
        )

    def _tell_of(self, of: Collected, at: datetime | None = None) -> None:
        self._tell(
            NewsKind.PAYER_CHANGED,
            of,
            at=at,
            item=f"si_{of.id}",
            tier_name=of.tier,
            seats=of.seats,
            ending=of.is_ending,
            is_overdue=of.open_invoice is not None,
        )

    def _tell(
        self, kind: NewsKind, of: Collected, *, at: datetime | None = None, **facts: Any
    ) -> None:
        news = News(
            provider=self.name,
            event_id=self._id("evt"),
            kind=kind,
            happened_at=(at or self.now()).replace(microsecond=0),
            customer=of.customer,
            subscription=of.id,
            order_id=of.order,
        )
        self.untold.append(replace(news, **facts))
