"""Months of billing beside the books of an accountant who knows nothing of its code."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Wanted
from services.billing.domain.analytics import Split
from services.billing.domain.closing import Month
from services.billing.domain.correction import Deltas
from services.billing.domain.crediting import CreditRequest, WantedCredit
from services.billing.domain.errors import (
    CreditExceedsLine,
    NothingToCancel,
    NothingToCredit,
    PaymentOutstanding,
    SubscriptionNotPaid,
)
from services.billing.domain.invoice import Invoice, InvoiceId, LineId, LineKind
from services.billing.domain.payment import PaymentId
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder
from services.billing.settings import Settings
from shared.db.database import Database
from shared.ids import EventId, UserId
from tests.integration.billing.harness import actions_on
from tests.support.accountant import (
    CENT,
    Call,
    Correction,
    Customer,
    Document,
    Ledger,
    Outstanding,
    PriceList,
    cents,
    month_of,
    months_after,
    recognised,
    share,
)
from tests.support.billing import (
    FixedPrices,
    StoppedClock,
    a_usage,
    id_made_at,
)
from tests.support.billing_invoices import A_WHILE, STAFF

COSTS = {"small": 1, "usual": 205, "dear": 99_999}
TAX = 1_900  # basis points
TIERS = ("free", "pro", "enterprise")
REASON = "made up for a test"


@dataclass
class World:
    """Some customers whose wishes are random, in billing and in the accountant's books."""

    actions: Actions
    work: NewUnitOfWork
    database: Database
    clock: StoppedClock
    random: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    prices: PriceList = field(default_factory=PriceList)
    paid_cents: Counter[UUID] = field(default_factory=Counter)
    invoiced_cents: Counter[UUID] = field(default_factory=Counter)
    credited_cents: Counter[UUID] = field(default_factory=Counter)
    lines: dict[UUID, tuple[object, ...]] = field(default_factory=dict)  # by billing's ids

    @property
    def now(self) -> datetime:
        return self.clock.now()

    @property
    def some_user(self) -> UserId:
        return UserId(self.random.choice(list(self.ledger.customers)))

    async def come_to(self, moment: datetime) -> None:
        self.clock.forward(max(moment - self.now, timedelta()))
        await self.actions.advance_subscriptions()
        for customer in self.ledger.customers.values():
            customer.advance(self.now)

    async def act(self) -> None:
        acts = (self.choose, self.use, self.cancel, self.pay, self.correct, self.set_a_price)
        await self.random.choices(acts, weights=(8, 8, 2, 5, 3, 1))[0]()

    async def choose(self) -> None:
        who, tier = self.some_user, self.random.choice(TIERS[1:])
        customer = self.ledger.customers[who]
        seats = self.random.randrange(1, 6) if tier == "enterprise" else 1
        try:
            amount = customer.quote(tier, seats, self.now)
        except Outstanding:
            with pytest.raises(PaymentOutstanding):
                await self._wish(who, tier, seats)
            return
        if amount > 0:
            with pytest.raises(SubscriptionNotPaid) as asked:
                await self._wish(who, tier, seats)
            facts = asked.value.facts
            assert (facts["amount_microusd"], facts["total_cents"]) == (amount, _gross(amount))
            await self.actions.mark_paid(PaymentId(UUID(facts["payment_id"])), by=STAFF)
            self.paid_cents[who] += _gross(amount)
        else:
            await self._wish(who, tier, seats)
        customer.choose(tier, seats, self.now)

    async def _wish(self, who: UserId, tier: str, seats: int) -> None:
        await self.actions.change_subscription(Holder(who), Wanted(tier, seats), by=who)

    async def cancel(self) -> None:
        who = self.some_user
        if self.ledger.customers[who].cancel(self.now):
            await self.actions.cancel_subscription(Holder(who), by=who)
        else:
            with pytest.raises(NothingToCancel):
                await self.actions.cancel_subscription(Holder(who), by=who)

    async def pay(self) -> None:
        """Some of those who owe."""
        rows = await self.database.fetch(
            "select id, holder_id, amount_microusd from payment"
            " where state = 'open' and kind = 'renewal' order by holder_id"
        )
        owed = {who: one.owed for who, one in self.ledger.customers.items() if one.owed}
        assert {row["holder_id"]: row["amount_microusd"] for row in rows} == owed
        for row in self.random.sample(list(rows), len(rows) // 2 + len(rows) % 2):
            await self.actions.mark_paid(PaymentId(row["id"]), by=STAFF)
            self.paid_cents[row["holder_id"]] += _gross(row["amount_microusd"])
            self.ledger.customers[row["holder_id"]].pay()

    async def use(self) -> None:
        """Calls of now and of earlier months, one of them told twice."""
        facts = []
        for _ in range(self.random.randrange(1, 4)):
            at = self.now - timedelta(days=self.random.choice((0, 0, 1, 40)))
            if self.random.random() < 0.2:
                at = month_of(at) - timedelta(microseconds=self.random.choice((0, 1)))
            tier, model = self.random.choice(TIERS), self.random.choice(list(COSTS))
            fact = a_usage(user=self.some_user, at=at, id_=id_made_at(at), tier=tier, model=model)
            facts.append(fact)
            user, cost = fact.event.user_id, COSTS[model]
            call = Call(fact.id, user, at, tier, model, cost, self.ledger.closed)
            self.ledger.calls.append(call)
        await self.actions.record_usage([*facts, facts[0]])

    async def correct(self) -> None:
        open_ = [call for call in self.ledger.calls if not call.is_voided]
        if not open_:
            return
        call = self.random.choice(open_)
        call.is_voided = self.random.random() < 0.5
        less = call.standing if call.is_voided else self.random.randrange(call.standing + 1)
        deltas = None if call.is_voided else Deltas(cost_microusd=-less)
        if less or call.is_voided:
            await self.actions.correct_usage(EventId(call.id), deltas, reason=REASON, by=STAFF)
            call.corrections.append(Correction(-1 if call.is_voided else 0, -less))

    async def set_a_price(self) -> None:
        tier, unit = self.random.choice(TIERS[1:]), self.random.randrange(8_000_000, 17_000_000)
        await self.actions.set_plan_price(tier, unit, effective_from=None, by=STAFF)
        self.prices.own.append((tier, self.now, unit))
        rate = self.random.choice((1, 333, 10_000))
        await self.actions.set_usage_fee("pro", rate, effective_from=None, by=STAFF)
        self.ledger.rates.append(("pro", self.now, rate))

    async def close(self, begins: datetime) -> None:
        month = Month(begins.date())
        await self.actions.close_period(month, by=STAFF, reason=REASON)
        self.ledger.closed += 1
        await self.use()  # comes too late for the invoices
        await self.correct()
        await self.actions.make_invoices(month, by=STAFF, within=A_WHILE)
        due = self.ledger.invoices_of(begins)
        made = await self._invoices_of(month)
        assert {who: document for who, (_, document) in made.items()} == due
        for who, (invoice_id, document) in made.items():
            check = await self.actions.verify_invoice(invoice_id)
            assert check.is_sound, check
            net = document.net_cents
            assert check.invoice.total_cents == net + share(net, TAX)
            self.invoiced_cents[who] += check.invoice.total_cents
            if self.random.random() < 0.7:
                await self._credit(who, invoice_id)

    async def _invoices_of(self, month: Month) -> dict[UUID, tuple[InvoiceId, Document]]:
        made: dict[UUID, tuple[InvoiceId, Document]] = {}
        async with self.work() as work:
            for head in await work.invoices.heads(month=month, most=1_000):
                invoice = await work.invoices.get(head.id)
                assert invoice is not None
                self._know(invoice)
                lines = [
                    (
                        line.kind.value,
                        line.amount_microusd,
                        line.vendor_cost_microusd,
                        line.facts.get("requests", line.quantity),
                    )
                    for line in invoice.lines
                ]
                document = Document(sorted(lines, key=str), invoice.subtotal_microusd)
                assert head.carried_microusd == document.carried
                made[head.holder] = (head.id, document)
        return made

    def _know(self, invoice: Invoice) -> None:
        """Which lines the accountant calls by other names."""
        begins = datetime.combine(invoice.month.first_day, time(), UTC)
        for line in invoice.lines:
            facts = line.facts
            if line.kind in (LineKind.USAGE, LineKind.LATE_USAGE):
                name = f"{facts['tier']} {facts['model']} {facts['month']}"
                rate = facts["fee_basis_points"]
                key: tuple[object, ...] = (
                    "calls",
                    invoice.holder,
                    begins,
                    line.kind.value,
                    rate,
                    name,
                )
            elif line.kind is LineKind.CORRECTION:
                assert line.family is not None
                key = self.lines[line.family]
            elif line.kind is LineKind.ROUNDING:
                key = ("rounding", line.id)
                self.ledger.pots[key].charged = line.amount_microusd
            else:
                key = ("period", invoice.holder, datetime.fromisoformat(facts["ends"]))
            self.lines[line.id] = key

    async def _credit(self, who: UUID, invoice_id: InvoiceId) -> None:
        """A part of a line, then all that is left."""
        async with self.work() as work:
            invoice = await work.invoices.get(invoice_id)
        assert invoice is not None
        lines = [line for line in invoice.lines if line.amount_microusd]
        if not lines:
            return
        line = self.random.choice(lines)
        part = line.amount_microusd // 3 or line.amount_microusd
        so_far = 0
        left = Counter({one.id: one.amount_microusd for one in lines})
        for key, wanted in (("part", [WantedCredit(LineId(line.id), part)]), ("rest", [])):
            by_pot: dict[tuple[object, ...], list[int]] = {}
            for id_, amount in ({line.id: part} if wanted else left).items():
                by_pot.setdefault(self.lines[id_], []).append(amount)
            given = {name: self._takes(name, amounts) for name, amounts in by_pot.items()}
            request = CreditRequest(wanted, REASON, key, STAFF)
            if wanted and given != {self.lines[line.id]: part}:
                with pytest.raises(CreditExceedsLine):
                    await self.actions.issue_credit_note(invoice_id, request)
                continue
            if not any(given.values()) and not any(a < 0 for some in by_pot.values() for a in some):
                with pytest.raises(NothingToCredit):
                    await self.actions.issue_credit_note(invoice_id, request)
                continue
            note = await self.actions.issue_credit_note(invoice_id, request)
            credited = sum(given.values())
            total = _gross(so_far + credited) - _gross(so_far)
            assert (note.subtotal_microusd, note.total_cents) == (credited, total)
            for name, amount in given.items():
                self.ledger.pots[name].noted += amount
            left[line.id] -= part
            self.ledger.carry(who, note.net_cents * CENT - credited)
            self.credited_cents[who] += total
            so_far += credited
        assert (await self.actions.verify_invoice(invoice_id)).is_sound

    def _takes(self, pot: tuple[object, ...], amounts: list[int]) -> int:
        """What lines about one thing are credited by: of what is left to give back no more."""
        wanted = sum(amounts)
        if not any(amount > 0 for amount in amounts):
            return wanted
        return min(wanted, self.ledger.pots[pot].left)

    async def compare(self, begins: datetime) -> None:
        """What was charged, what everybody's account says, and the figures of the month."""
        rows = await self.database.fetch(
            "select holder_id, kind, tier, seats, unit_price_microusd, begins, ends,"
            " amount_microusd, charged_at from charge"
        )
        customers = self.ledger.customers
        assert Counter(tuple(row.values()) for row in rows) == Counter(
            (who, *fee.facts) for who, one in customers.items() for fee in one.fees
        )
        async with self.work() as work:
            for who in customers:
                account = await work.accounts.of(UserId(who))
                assert (account.paid_microusd, account.invoiced_cents, account.credited_cents) == (
                    self.paid_cents[who] * CENT,
                    self.invoiced_cents[who],
                    self.credited_cents[who],
                )
                left = self.ledger.pending(who)
                carried = sum(self.ledger.carried.get(who, []))
                assert (account.uninvoiced_microusd, account.carried_microusd) == (left, carried)
        await self._compare_figures(begins)
        await self._compare_usage()

    async def _compare_figures(self, begins: datetime) -> None:
        ends = months_after(begins, 1)
        fees = [fee for one in self.ledger.customers.values() for fee in one.fees]
        found = await self.actions.analyse.revenue(begins, ends, Split.TIER)
        shown = {(row.month, row.tier): row for row in found}
        for tier in TIERS[1:]:
            its = [fee for fee in fees if fee.tier == tier]
            held = [one.monthly_at(ends) for one in self.ledger.customers.values()]
            monthly = [each for each in held if each[0] == tier]
            row = shown.get((begins.date(), tier))
            if row is None:
                assert not monthly
                continue
            assert (row.subscriptions, row.seats, row.mrr_microusd) == (
                len(monthly),
                sum(seats for _, seats, _ in monthly),
                sum(amount for _, _, amount in monthly),
            )
            assert row.charged_microusd == sum(
                fee.amount for fee in its if begins <= fee.charged_at < ends
            )
            # Rounded once for each charge.
            assert abs(row.recognised_microusd - recognised(its, begins, ends)) <= len(its)

    async def _compare_usage(self) -> None:
        while await self.actions.link_ledger():
            pass
        rows = await self.database.fetch(
            "select user_id, sum(requests) as requests, sum(cost_microusd) as cost"
            " from reporting.usage_daily group by user_id"
        )
        used: Counter[tuple[UUID, str]] = Counter()
        for call in self.ledger.calls:
            used[call.user, "requests"] += 1 + sum(one.requests for one in call.corrections)
            used[call.user, "cost"] += call.standing
        for row in rows:
            assert row["requests"] == used.pop((row["user_id"], "requests"))
            assert row["cost"] == used.pop((row["user_id"], "cost"))
        assert not used


def _gross(microusd: int) -> int:
    """In cents, with the tax."""
    return cents(microusd) + share(cents(microusd), TAX)


async def live(world: World, begins: datetime, months: int) -> None:
    for _ in range(5):
        world.ledger.customers[uuid4()] = Customer(world.prices)
    for _ in range(months):
        ends = months_after(begins, 1)
        seconds = int((ends - begins).total_seconds())
        moments = [begins + timedelta(seconds=world.random.randrange(seconds)) for _ in range(24)]
        for moment in sorted([begins, *moments, ends - timedelta(microseconds=1)]):
            await world.come_to(moment)
            await world.act()
        await world.come_to(ends + timedelta(hours=3))
        await world.close(begins)
        await world.compare(begins)
        begins = ends


@pytest.fixture
def world_of(
    work: NewUnitOfWork, database: Database, settings: Callable[..., Settings], tmp_path: Path
) -> Callable[[int, datetime], World]:
    """Billing with taxes and models of some prices, and what a seed makes of it."""
    taxes = tmp_path / "taxes.json"
    rate = {"country": "DE", "from": "2007-01-01", "basis_points": TAX}
    seller = {"country": "DE", "vat_id": "DE136695976"}
    taxes.write_text(json.dumps({"seller": seller, "rates": [rate]}))

    def make(seed: int, begins: datetime) -> World:
        clock = StoppedClock(begins)
        actions = actions_on(
            work, settings(tax_file=taxes), clock, list_prices=FixedPrices(**COSTS)
        )
        return World(actions, work, database, clock, random.Random(seed))

    return make


# Through February of a leap year, and over the end of a year.
_BEGINS = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize("seed", [0, 1])
async def test_billing_and_the_accountant_come_to_the_same(
    world_of: Callable[[int, datetime], World], seed: int
) -> None:
    await live(world_of(seed, _BEGINS[seed]), _BEGINS[seed], 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
async def test_they_do_in_many_worlds(
    world_of: Callable[[int, datetime], World], seed: int
) -> None:
    begins = months_after(_BEGINS[0], seed)
    await live(world_of(seed, begins), begins, 5)
