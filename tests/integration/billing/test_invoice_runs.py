"""Runs over months of anything: all of it is invoiced once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.billing.actions.make_invoices import MakeInvoices
from services.billing.domain.closing import Month
from services.billing.domain.crediting import CreditRequest, WantedCredit
from services.billing.domain.errors import (
    AdjustmentNotAcceptable,
    CreditExceedsLine,
    InvoicesOutOfOrder,
    UsageVoidedAlready,
)
from services.billing.domain.invoicing import Scope, month_after
from services.billing.domain.ports import NewUnitOfWork
from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.ids import EventId, UserId
from tests.integration.billing.harness import actions_on
from tests.support.billing import (
    FixedPrices,
    StoppedClock,
)
from tests.support.billing_invoices import A_WHILE, STAFF, Books, a_charge

COSTS = {"small": 1, "usual": 205, "odd": 33_333, "huge": 10**15}
RATES = ((datetime(2000, 1, 1, tzinfo=UTC), 1_234), (datetime(2021, 3, 10, tzinfo=UTC), 77))
CENT = 10_000


@pytest.fixture
def books(work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings]) -> Books:
    """Billing with models of some prices."""
    actions = actions_on(work, settings(), clock, list_prices=FixedPrices(**COSTS))
    return Books(actions, work)


_HOLDER = st.integers(0, 1)
_BACK = st.integers(0, 2)  # months before the one that is going on
_STEP = st.one_of(
    st.tuples(st.just("charge"), _HOLDER, st.integers(-20_000_000, 20_000_000)),
    st.tuples(st.just("use"), _HOLDER, _BACK, st.sampled_from([*COSTS, "dark"])),
    st.tuples(st.just("adjust"), st.integers(0, 9), st.integers(-300, 300)),
    st.tuples(st.just("void"), st.integers(0, 9)),
    st.tuples(st.just("price"), st.integers(0, 9), st.integers(0, 10**7)),
    st.tuples(st.just("credit"), st.integers(0, 9), st.integers(0, 9), st.integers(1, 100)),
)
_MONTHS = st.lists(st.lists(_STEP, max_size=7), min_size=2, max_size=3)


@dataclass
class Story:
    """What was done, and what it has to come to."""

    books: Books
    month: Month
    holders: tuple[UUID, UUID] = field(default_factory=lambda: (uuid4(), uuid4()))
    uses: list[tuple[EventId, UUID, int]] = field(default_factory=list)  # with their rate
    waiting: list[int] = field(default_factory=list)  # which of them have no price
    voided: set[EventId] = field(default_factory=set)
    due: dict[UUID, Fraction] = field(default_factory=dict)
    credited: dict[UUID, int] = field(default_factory=dict)
    charges: set[UUID] = field(default_factory=set)
    keys: Iterator[int] = field(default_factory=count)

    def owe(self, holder: UUID, amount: Fraction | int) -> None:
        self.due[holder] = self.due.get(holder, Fraction()) + amount

    async def do(self, step: tuple[Any, ...]) -> None:
        await getattr(self, step[0])(*step[1:])

    async def charge(self, holder: int, amount: int) -> None:
        charge = a_charge(self.holders[holder], amount, at=self.month.period.begins)
        await self.books.charge(charge)
        self.charges.add(charge.id)
        self.owe(charge.holder, amount)

    async def use(self, holder: int, back: int, model: str) -> None:
        at = self.month.period.begins + timedelta(days=9) - timedelta(days=30 * back)
        event_id = await self.books.use(self.holders[holder], at=at, tier="pro", model=model)
        rate = [points for since, points in RATES if since <= at][-1]
        if model == "dark":
            self.waiting.append(len(self.uses))
        else:
            self.owe(self.holders[holder], Fraction(COSTS[model] * rate, 10_000))
        self.uses.append((event_id, self.holders[holder], rate))

    async def adjust(self, index: int, delta: int) -> None:
        priced = [use for n, use in enumerate(self.uses) if n not in self.waiting]
        if not priced:
            return
        event_id, holder, rate = priced[index % len(priced)]
        try:
            await self.books.adjust(event_id, delta)
        except (AdjustmentNotAcceptable, UsageVoidedAlready):
            return
        self.owe(holder, Fraction(delta * rate, 10_000))

    async def void(self, index: int) -> None:
        if not self.uses:
            return
        event_id, holder, rate = self.uses[index % len(self.uses)]
        try:
            await self.books.void(event_id)
        except UsageVoidedAlready:
            return
        self.voided.add(event_id)
        corrected = await self.books.actions.explain_usage.with_corrections(
            event_id, by=UserId(holder)
        )
        self.owe(holder, Fraction(corrected.corrections[-1].deltas.cost_microusd * rate, 10_000))

    async def price(self, index: int, cost: int) -> None:
        if not self.waiting:
            return
        number = self.waiting[index % len(self.waiting)]
        event_id, holder, rate = self.uses[number]
        if event_id in self.voided:
            return
        self.waiting.remove(number)
        await self.books.price(event_id, cost)
        self.owe(holder, Fraction(cost * rate, 10_000))

    async def credit(self, invoice: int, line: int, percent: int) -> None:
        made = [one for holder in self.holders for one in await self.books.invoices_of(holder)]
        if not made:
            return
        of = made[invoice % len(made)]
        wanted = of.lines[line % len(of.lines)]
        async with self.books.work() as work:
            left = (await work.credit_notes.credited(of)).left_of(wanted)
        amount = int(Fraction(left * percent, 100))
        if not amount:
            return
        request = CreditRequest(
            [WantedCredit(wanted.id, amount)], "A test.", str(next(self.keys)), STAFF
        )
        try:
            await self.books.actions.issue_credit_note(of.id, request)
        except CreditExceedsLine:
            return  # of its period less is left than of the line
        self.credited[of.holder] = self.credited.get(of.holder, 0) + amount


async def check(story: Story, database: Database) -> None:
    """All that was charged and used is on one line each, and the cents are what it comes to."""
    used = {event_id for event_id, _, _ in story.uses}
    items = await database.fetch(
        "select source_id, aspect from invoice_item i join invoice_line l on l.id = i.line_id"
        " where i.holder_id = any($1::uuid[])",
        list(story.holders),
    )
    found = [row["source_id"] for row in items if row["aspect"] in ("charge", "usage")]
    assert sorted(found) == sorted(story.charges | used)
    for holder in story.holders:
        invoices = await story.books.invoices_of(holder)
        async with story.books.work() as work:
            notes = await work.credit_notes.of(
                UserId(holder), invoice_id=None, after=None, most=1000
            )
        cents = sum(one.total_cents for one in invoices) - sum(one.total_cents for one in notes)
        # What was credited and corrected is given back once; what that comes to is tried elsewhere.
        once = sum(line.given_back_microusd for invoice in invoices for line in invoice.lines)
        due = story.due.get(holder, Fraction()) - story.credited.get(holder, 0) + once
        lines = sum(len(invoice.lines) for invoice in invoices)
        assert abs(cents * CENT - due) < CENT + lines
        for invoice in invoices:
            verified = await story.books.actions.verify_invoice(invoice.id)
            assert verified.is_sound, [(c.line, c.differences) for c in verified.lines]


async def test_whatever_happens_in_some_months_is_invoiced_once_and_to_the_cent(
    books: Books, database: Database
) -> None:
    for since, points in RATES:
        await books.fee("pro", points, since=since)
    month = Month.named("2020-06")
    loop_month = [month]

    async def tell(months: list[list[tuple[Any, ...]]]) -> None:
        story = Story(books, loop_month[0])
        for steps in months:
            story.month = loop_month[0]
            for step in steps:
                await story.do(step)
            await books.close_and_run(story.month)
            loop_month[0] = month_after(story.month)
        # What was credited or corrected last is settled by one more month, with something in it.
        story.month = loop_month[0]
        for holder in range(2):
            await story.charge(holder, 1)
        await books.close_and_run(story.month)
        loop_month[0] = month_after(story.month)
        await check(story, database)

    await _for_examples(tell)


async def _for_examples(tell: Callable[[list[list[tuple[Any, ...]]]], Any]) -> None:
    loop = asyncio.get_running_loop()

    @hypothesis_settings(
        max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(months=_MONTHS)
    def run(months: list[list[tuple[Any, ...]]]) -> None:
        asyncio.run_coroutine_threadsafe(tell(months), loop).result()

    await asyncio.to_thread(run)


# Interruptions


class Killed(Exception):
    """The process is gone at this moment."""


async def a_month_of(books: Books, people: int) -> list[UUID]:
    """So many holders with a fee and some usage, the month closed."""
    holders = sorted(uuid4() for _ in range(people))
    month = Month.named("2026-09")
    for number, holder in enumerate(holders):
        await books.charge(a_charge(holder, 1_000_000 + number, at=month.period.begins))
        await books.use(holder, at=month.period.begins, model="usual")
    await books.close(month)
    return holders


async def outcome(books: Books, holders: list[UUID]) -> list[tuple[str | None, int, int]]:
    found = [await books.invoice_of(holder) for holder in holders]
    return [(one.number, one.total_cents, len(one.lines)) for one in found]


def whole(people: int) -> list[tuple[str | None, int, int]]:
    """What a run that nothing disturbs makes."""
    return [(f"TT-2026-{number:06}", 100, 2) for number in range(1, people + 1)]


def in_small_pages(books: Books, work: NewUnitOfWork) -> MakeInvoices:
    known = books.actions.make_invoices
    return MakeInvoices(work, known.clock, known.terms, page=2)


@pytest.mark.parametrize(
    ("room", "step"),
    [
        ("invoice_runs", "begin"),
        ("invoice_runs", "take"),
        ("invoices", "cover"),
        ("invoices", "first_number"),
        ("invoices", "add"),
        ("webhooks", "tell"),
        ("invoice_runs", "went_on"),
    ],
)
async def test_a_run_that_is_killed_at_any_step_is_gone_on_with(
    books: Books, database: Database, room: str, step: str
) -> None:
    holders = await a_month_of(books, 5)
    calls = count(1)

    @asynccontextmanager
    async def dying() -> AsyncIterator[Any]:
        async with SqlWork(database) as work:
            known = getattr(getattr(work, room), step)

            async def die_at_the_second(*args: Any, **named: Any) -> Any:
                answer = await known(*args, **named)
                if next(calls) == (1 if step == "begin" else 2):
                    raise Killed
                return answer

            setattr(getattr(work, room), step, die_at_the_second)
            yield work

    month = Month.named("2026-09")
    with pytest.raises(Killed):
        await in_small_pages(books, dying)(month, by=STAFF, within=A_WHILE)
    run = await in_small_pages(books, books.work)(month, by=STAFF, within=A_WHILE)
    assert (run.left, run.invoices) == (0, 5)
    assert await outcome(books, holders) == whole(5)


async def test_runs_at_the_same_time_make_what_one_makes(books: Books) -> None:
    holders = await a_month_of(books, 7)
    make = in_small_pages(books, books.work)
    month = Month.named("2026-09")
    runs = await asyncio.gather(*(make(month, by=STAFF, within=A_WHILE) for _ in range(4)))
    assert {run.left for run in runs} == {0}
    assert await outcome(books, holders) == whole(7)


async def test_runs_of_two_months_never_begin_at_once(books: Books) -> None:
    """Both would take all that was before them, and neither could be ended."""
    september, october = Month.named("2026-09"), Month.named("2026-10")
    await books.close(october)
    async with books.work() as work:
        await work.invoice_runs.take_turn()
        closed = await work.invoice_runs.next_closed()
        assert closed is not None
        await books.close(september)
        racing = asyncio.create_task(books.run(september))
        await asyncio.sleep(0.1)
        await work.invoice_runs.begin(
            Scope.of(None, closed), at=closed.closed_at, by=None, aged_after=None
        )
        assert not racing.done()
    with pytest.raises(InvoicesOutOfOrder):
        await racing
    assert (await books.run(october)).finished_at is not None


async def test_a_month_waits_until_all_of_the_one_before_is_invoiced(books: Books) -> None:
    september, october = Month.named("2026-09"), Month.named("2026-10")
    ada, bob = uuid4(), uuid4()
    for holder in (ada, bob):
        await books.charge(a_charge(holder, 1_000_000, at=datetime(2026, 9, 10, tzinfo=UTC)))
    await books.close(september)
    one_at_a_time = replace(books.actions.make_invoices, page=1)
    begun = await one_at_a_time(september, by=STAFF, within=timedelta(0))
    assert begun.left == 1
    await books.close(october)
    with pytest.raises(InvoicesOutOfOrder):
        await books.run(october)
    await books.run(september)
    assert [len(await books.invoices_of(holder)) for holder in (ada, bob)] == [1, 1]
    assert (await books.run(october)).invoices == 0
