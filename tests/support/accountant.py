"""An accountant's own books of a few customers: what they owe by the documents alone.

Nothing of billing is imported, so that a mistake has to be made twice to go unseen. Whole
micro-dollars; exact fractions until they are rounded once.
"""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from uuid import UUID

CENT = 10_000
RANKS = {"free": 0, "pro": 1, "enterprise": 2}
LISTED = {"free": 0, "pro": 9_000_000, "enterprise": 15_000_000}
GRACE, FIRST_REMINDER = timedelta(days=10), timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


def half_away(exact: Fraction | int) -> int:
    """The nearest whole number; a half goes away from zero."""
    whole = int((2 * abs(Fraction(exact)) + 1) // 2)
    return whole if exact >= 0 else -whole


def cents(microusd: int) -> int:
    return half_away(Fraction(microusd, CENT))


def share(amount: int, basis_points: int) -> int:
    return half_away(Fraction(amount * basis_points, 10_000))


def month_of(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months_after(anchor: datetime, count: int) -> datetime:
    """The same day so many months later, or that month's last."""
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + count, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, last))


def rest_of(amount: int, begins: datetime, at: datetime, ends: datetime) -> int:
    """What of a period's price falls to the time from `at` on; a half goes to what was used."""
    exact = Fraction(amount * ((ends - at) // _MICROSECOND), (ends - begins) // _MICROSECOND)
    whole = exact.numerator // exact.denominator
    return whole + (exact - whole > Fraction(1, 2))


@dataclass
class Fee:
    """A charge of a subscription; `charged_at` is when it was written."""

    kind: str
    tier: str
    seats: int
    unit: int
    begins: datetime
    ends: datetime
    amount: int
    charged_at: datetime
    is_invoiced: bool = False

    @property
    def facts(self) -> tuple[object, ...]:
        span = (self.begins, self.ends)
        return (self.kind, self.tier, self.seats, self.unit, *span, self.amount, self.charged_at)

    def earned_until(self, moment: datetime) -> Fraction:
        """By time, and nothing before it was charged."""
        if moment <= self.charged_at or moment <= self.begins:
            return Fraction(0)
        if moment >= self.ends:
            return Fraction(self.amount)
        past = (moment - self.begins) // _MICROSECOND
        return Fraction(self.amount * past, (self.ends - self.begins) // _MICROSECOND)


@dataclass
class PriceList:
    """What a seat costs a month, from a moment on."""

    own: list[tuple[str, datetime, int]] = field(default_factory=list)

    def at(self, tier: str, moment: datetime) -> int:
        found = [(since, unit) for name, since, unit in self.own if name == tier]
        return max((one for one in found if one[0] <= moment), default=(moment, LISTED[tier]))[1]


class Outstanding(Exception):
    """More is not sold to who owes."""


@dataclass
class Customer:
    """One subscription that is bought, changed, cancelled, paid late or not at all."""

    prices: PriceList
    tier: str = "free"
    seats: int = 1
    begins: datetime | None = None
    ends: datetime | None = None
    anchor: datetime | None = None
    unit: int = 0
    planned: tuple[str, int] | None = None
    cancels: bool = False
    owed: int = 0
    asked_at: datetime | None = None
    is_past_due: bool = False
    fees: list[Fee] = field(default_factory=list)
    spans: list[tuple[datetime, datetime, str, int, int]] = field(default_factory=list)

    def advance(self, now: datetime) -> None:
        """What the clock brings until then."""
        while self.ends is not None:
            if self.owed and self.asked_at is not None and self.asked_at + GRACE <= now:
                self._end(now)
            elif self.ends <= now:
                if self.cancels:
                    self._end(now)
                else:
                    self._renew(now)
                    continue
            elif self.owed and self.asked_at is not None:
                self.is_past_due |= self.asked_at + FIRST_REMINDER <= now
            return

    def _renew(self, now: datetime) -> None:
        begins, anchor = self.ends, self.anchor
        assert begins is not None and anchor is not None
        self.tier, self.seats = self.planned or (self.tier, self.seats)
        self.planned, self.unit = None, self.prices.at(self.tier, begins)
        passed = (begins.year - anchor.year) * 12 + begins.month - anchor.month
        self.begins, self.ends = begins, months_after(anchor, passed + 1)
        self._charge("period_fee", self.unit * self.seats, begins, now)
        self.asked_at = self.asked_at or now.replace(microsecond=0)
        self.owed += self.unit * self.seats
        self._hold(begins)

    def _charge(self, kind: str, amount: int, begins: datetime, now: datetime) -> None:
        assert self.ends is not None
        if amount:
            terms = (self.tier, self.seats, self.unit)
            self.fees.append(Fee(kind, *terms, begins, self.ends, amount, now))

    def _hold(self, since: datetime) -> None:
        assert self.ends is not None
        self._cut(since)
        self.spans.append((since, self.ends, self.tier, self.seats, self.unit))

    def _cut(self, at: datetime) -> None:
        self.spans = [(span[0], min(span[1], at), *span[2:]) for span in self.spans]

    def _end(self, now: datetime) -> None:
        assert self.begins is not None
        if self.owed:
            self._charge("write_off", -self.owed, self.begins, now)
            self._cut(now)
        self.tier, self.seats, self.unit, self.owed = "free", 1, 0, 0
        self.begins = self.ends = self.anchor = self.planned = self.asked_at = None
        self.cancels = self.is_past_due = False

    def price_of(self, tier: str, now: datetime) -> int:
        return self.unit if self.ends and tier == self.tier else self.prices.at(tier, now)

    def quote(self, tier: str, seats: int, now: datetime) -> int:
        """What is to be paid for the wish now; 0 where it waits for the next period, or is so
        already. Raises Outstanding."""
        fee = self.price_of(tier, now) * seats
        if self.ends is None:
            return fee
        if not self._is_more(tier, seats) or (self.planned == (tier, seats) and not self.cancels):
            return 0
        if self.owed:
            raise Outstanding
        assert self.begins is not None
        at = now.replace(microsecond=0)
        held = rest_of(self.unit * self.seats, self.begins, at, self.ends)
        return rest_of(fee, self.begins, at, self.ends) - held

    def _is_more(self, tier: str, seats: int) -> bool:
        larger = tier == self.tier and seats > self.seats
        return RANKS[tier] > RANKS[self.tier] or larger

    def choose(self, tier: str, seats: int, now: datetime) -> None:
        """The wish takes effect, which was paid for where it costs."""
        at, unit = now.replace(microsecond=0), self.price_of(tier, now)
        if self.ends is None:
            self.tier, self.seats, self.unit = tier, seats, unit
            self.anchor = self.begins = at
            self.ends = months_after(at, 1)
            self._charge("period_fee", unit * seats, at, now)
            self._hold(at)
        elif self._is_more(tier, seats):
            assert self.begins is not None
            held = rest_of(self.unit * self.seats, self.begins, at, self.ends)
            self._charge("proration_credit", -held, at, now)
            self.tier, self.seats, self.unit = tier, seats, unit
            rest = rest_of(unit * seats, self.begins, at, self.ends)
            self._charge("proration_debit", rest, at, now)
            self.planned, self.cancels = None, False
            self._hold(at)
        else:
            same = (tier, seats) == (self.tier, self.seats)
            self.planned, self.cancels = None if same else (tier, seats), False

    def cancel(self, now: datetime) -> bool:
        """False where there is nothing to cancel."""
        if self.ends is None or self.cancels:
            return False
        if self.is_past_due:
            self._end(now)
        else:
            self.cancels, self.planned = True, None
        return True

    def pay(self) -> None:
        self.owed, self.asked_at, self.is_past_due = 0, None, False

    def monthly_at(self, moment: datetime) -> tuple[str, int, int]:
        """Tier, seats and micro-dollars a month of the period that is paid for then."""
        for begins, ends, tier, seats, unit in self.spans:
            if begins <= moment < ends and seats * unit:
                return tier, seats, seats * unit
        return "free", 0, 0


@dataclass
class Pot:
    """What was asked for one thing: a period, or the calls on a line. `noted` is what credit notes
    gave back, `kept` what was given back less because of them."""

    charged: int = 0
    noted: int = 0
    kept: int = 0

    @property
    def left(self) -> int:
        return max(0, self.charged - self.noted)

    def charge(self, amount: int) -> int:
        """A charge; what credit notes gave back of all of it is not given back again."""
        beyond = -(self.charged - self.noted + amount)
        return self._keep(amount, max(0, min(-amount, self.noted - self.kept, beyond)))

    def correct(self, amount: int) -> int:
        """A correction downwards, which gives back what credit notes have not."""
        beyond = -(self.charged - self.noted + amount)
        noted = max(0, self.noted - self.kept)
        return self._keep(amount, min(-amount, max(noted, beyond)))

    def _keep(self, amount: int, kept: int) -> int:
        self.kept += kept
        self.charged += amount + kept
        return amount + kept


@dataclass
class Correction:
    """What was put right of a call, signed."""

    requests: int
    cost: int
    is_invoiced: bool = False


@dataclass
class Call:
    """One paid call of known price; `heard_after`: how many months were closed when it came."""

    id: UUID
    user: UUID
    at: datetime
    tier: str
    model: str
    cost: int
    heard_after: int
    is_invoiced: bool = False
    is_voided: bool = False
    line: tuple[object, ...] = ()
    corrections: list[Correction] = field(default_factory=list)

    @property
    def standing(self) -> int:
        return self.cost + sum(one.cost for one in self.corrections)


@dataclass(frozen=True)
class Document:
    """What an invoice has to say: kind, amount, vendor's cost and quantity of each line."""

    lines: Sequence[tuple[str, int, int | None, int]]
    subtotal: int

    @property
    def net_cents(self) -> int:
        return cents(self.subtotal)

    @property
    def carried(self) -> int:
        return self.subtotal - self.net_cents * CENT


_LINE_KINDS = {"period_fee": "fee", "write_off": "write_off"}


@dataclass
class Ledger:
    """All customers and calls, and what the invoices of a closed month have to say."""

    customers: dict[UUID, Customer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    rates: list[tuple[str, datetime, int]] = field(default_factory=list)
    closed: int = 0
    carried: dict[UUID, list[int]] = field(default_factory=lambda: defaultdict(list))
    pots: dict[tuple[object, ...], Pot] = field(default_factory=lambda: defaultdict(Pot))

    def pending(self, who: UUID) -> int:
        """What is charged for plans and on no invoice yet, as the next one has it."""
        pots: dict[datetime, Pot] = {}
        found = [fee for fee in _charged_first(self.customers[who].fees) if not fee.is_invoiced]
        for fee in found:
            pots.setdefault(fee.ends, replace(self.pots["period", who, fee.ends]))
        return sum(pots[fee.ends].charge(fee.amount) for fee in found)

    def rate_at(self, tier: str, moment: datetime) -> int:
        found = [(since, rate) for name, since, rate in self.rates if name == tier]
        return max((one for one in found if one[0] <= moment), default=(moment, 0))[1]

    def invoices_of(self, month: datetime) -> dict[UUID, Document]:
        """The month that was closed last; what stands on one of these is invoiced from now on."""
        made = {}
        for who in {*self.customers, *(call.user for call in self.calls)}:
            lines = [*self._fee_lines(who, month), *self._usage_lines(who, month)]
            if lines and (rests := self.carried.pop(who, [])):
                lines.append(("rounding", sum(rests), None, len(rests)))
            if lines:
                document = Document(sorted(lines, key=str), sum(line[1] for line in lines))
                made[who] = document
                self.carry(who, document.carried)
        return made

    def carry(self, who: UUID, rest: int) -> None:
        """What a document leaves over of whole cents."""
        if rest:
            self.carried[who].append(rest)

    def _fee_lines(self, who: UUID, month: datetime) -> Iterator[tuple[str, int, None, int]]:
        customer = self.customers.get(who)
        for fee in _charged_first(customer.fees) if customer else ():
            if not fee.is_invoiced and fee.charged_at < months_after(month, 1):
                fee.is_invoiced = True
                amount = self.pots["period", who, fee.ends].charge(fee.amount)
                yield _LINE_KINDS.get(fee.kind, "proration"), amount, None, fee.seats

    def _usage_lines(self, who: UUID, month: datetime) -> Iterator[tuple[str, int, int, int]]:
        groups: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
        for call in self.calls:
            if call.user != who or call.at >= months_after(month, 1):
                continue
            rate = self.rate_at(call.tier, call.at)
            key = (rate, f"{call.tier} {call.model} {call.at:%Y-%m}")
            if not call.is_invoiced and call.heard_after < self.closed:
                call.is_invoiced = True
                kind = "usage" if call.at >= month else "late_usage"
                call.line = ("calls", who, month, kind, *key)
                groups[call.line].append((1, call.cost))
            for one in call.corrections if call.is_invoiced else ():
                if not one.is_invoiced:
                    one.is_invoiced = True
                    groups["corrections", *call.line].append((one.requests, one.cost))
        for line in sorted(groups, key=str):  # calls before what corrects them
            charged_as, points = line[-3:-1]
            assert isinstance(points, int)
            cost = sum(cost for _, cost in groups[line])
            requests = sum(requests for requests, _ in groups[line])
            if line[0] == "corrections":
                amount = self.pots[line[1:]].correct(share(cost, points))
                yield "correction", amount, cost, requests
            else:
                amount = self.pots[line].charge(share(cost, points))
                yield str(charged_as), amount, cost, requests


def _charged_first(fees: Iterable[Fee]) -> list[Fee]:
    """A change credits and charges: what it charges is there to be given back."""
    return sorted(fees, key=lambda fee: fee.amount < 0)


def recognised(fees: Iterable[Fee], begins: datetime, ends: datetime) -> Fraction:
    """What of the fees was earned between two moments."""
    earned = (fee.earned_until(ends) - fee.earned_until(begins) for fee in fees)
    return sum(earned, Fraction(0))
