"""What was charged is given back once: by a credit note, by a correction, or some by each."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.billing.domain.charge import Charge, ChargeKind
from services.billing.domain.closing import Month
from services.billing.domain.crediting import CreditRequest, WantedCredit
from services.billing.domain.errors import (
    AdjustmentNotAcceptable,
    CreditExceedsLine,
    NothingToCredit,
    UsageNotPriced,
    UsageVoidedAlready,
)
from services.billing.domain.invoice import CreditNote, Invoice, InvoiceLine, LineKind
from services.billing.domain.invoicing import month_after
from services.billing.domain.ports import NewUnitOfWork
from services.billing.settings import Settings
from services.billing.storage import invoices
from services.billing.storage.migrations import versions
from shared.db.database import Connection, Database
from shared.ids import EventId, UserId
from tests.integration.billing.harness import actions_on
from tests.support.billing import FixedPrices, StoppedClock
from tests.support.billing_invoices import STAFF, Books, a_charge

JUNE, JULY, AUGUST = (Month.named(f"2026-{month:02}") for month in (6, 7, 8))
IN_JUNE, IN_JULY, IN_AUGUST = (datetime(2026, m, 10, tzinfo=UTC) for m in (6, 7, 8))
ALWAYS = datetime(2020, 1, 1, tzinfo=UTC)
_KEYS = count()


@pytest.fixture
def books(work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings]) -> Books:
    """Billing with a model of 100 micro-dollars a call."""
    actions = actions_on(work, settings(), clock, list_prices=FixedPrices(usual=100, odd=333))
    return Books(actions, work)


async def used(books: Books, holder: UUID, at: datetime = IN_JUNE) -> EventId:
    return await books.use(holder, at=at, tier="pro", model="usual")


async def credit(
    books: Books, invoice: Invoice, line: InvoiceLine | None = None, amount: int | None = None
) -> CreditNote:
    """Of a line, or all of it."""
    lines = [] if line is None else [WantedCredit(line.id, amount)]
    request = CreditRequest(lines, "Wrongly charged.", str(next(_KEYS)), STAFF)
    return await books.actions.issue_credit_note(invoice.id, request)


async def charged_in_june(books: Books) -> tuple[UUID, EventId, Invoice]:
    """A call whose whole cost is charged."""
    ada = uuid4()
    await books.fee("pro", 10_000, since=ALWAYS)
    event_id = await used(books, ada)
    await books.close_and_run(JUNE)
    return ada, event_id, await books.invoice_of(ada)


async def last_lines(books: Books, holder: UUID, month: Month) -> Sequence[tuple[str, int]]:
    """What the month's invoice gives back, with something else on it so that there is one."""
    await books.charge(a_charge(holder, 5, at=month.period.begins))
    await books.close_and_run(month)
    invoices = await books.invoices_of(holder)
    for invoice in invoices:
        check = await books.actions.verify_invoice(invoice.id)
        assert check.is_sound, (check.differences, [one.differences for one in check.lines])
    return [
        (line.kind.value, line.amount_microusd)
        for line in invoices[-1].lines
        if line.kind not in (LineKind.FEE, LineKind.ROUNDING)
    ]


async def test_what_a_credit_note_gave_back_no_correction_gives_back_again(books: Books) -> None:
    ada, event_id, invoice = await charged_in_june(books)
    await credit(books, invoice)
    await books.void(event_id)
    assert await last_lines(books, ada, JULY) == [("correction", 0)]
    [correction] = [
        line for line in (await books.invoices_of(ada))[1].lines if line.kind is LineKind.CORRECTION
    ]
    assert correction.facts["given_back_microusd"] == 100
    assert correction.vendor_cost_microusd == -100
    assert correction.source.count == 1


async def test_what_a_correction_gave_back_no_credit_note_gives_back_again(books: Books) -> None:
    ada, event_id, invoice = await charged_in_june(books)
    await books.adjust(event_id, -40)
    assert await last_lines(books, ada, JULY) == [("correction", -40)]
    with pytest.raises(CreditExceedsLine) as refused:
        await credit(books, invoice, invoice.lines[0], 61)
    assert refused.value.facts["left_microusd"] == 60
    note = await credit(books, invoice)
    assert note.subtotal_microusd == 60
    with pytest.raises(NothingToCredit):
        await credit(books, invoice)


@pytest.mark.parametrize(
    ("credited", "corrected", "line"), [(30, 40, -10), (40, 40, 0), (60, 40, 0), (0, 40, -40)]
)
async def test_a_correction_gives_back_what_credit_notes_have_not(
    books: Books, credited: int, corrected: int, line: int
) -> None:
    ada, event_id, invoice = await charged_in_june(books)
    if credited:
        await credit(books, invoice, invoice.lines[0], credited)
    await books.adjust(event_id, -corrected)
    assert await last_lines(books, ada, JULY) == [("correction", line)]


async def test_in_the_same_invoice_a_line_is_credited_up_to_its_correction(books: Books) -> None:
    ada = uuid4()
    await books.fee("pro", 10_000, since=ALWAYS)
    event_id = await used(books, ada)
    await books.adjust(event_id, -40)
    await books.close_and_run(JUNE)
    invoice = await books.invoice_of(ada)
    usage = next(line for line in invoice.lines if line.kind is LineKind.USAGE)
    with pytest.raises(CreditExceedsLine):
        await credit(books, invoice, usage, 100)
    assert (await credit(books, invoice, usage)).subtotal_microusd == 60


async def test_a_correction_upwards_takes_back_what_a_credit_note_stood_for(books: Books) -> None:
    """Credited 40, corrected by 40 less and then by 40 more: 60 are paid, as by the note alone."""
    ada, event_id, invoice = await charged_in_june(books)
    await credit(books, invoice, invoice.lines[0], 40)
    await books.adjust(event_id, -40)
    assert await last_lines(books, ada, JULY) == [("correction", 0)]
    await books.adjust(event_id, 40)
    assert await last_lines(books, ada, AUGUST) == [("correction", 0)]


@pytest.mark.parametrize("credited", [30, 100])
async def test_what_a_correction_added_after_a_credit_note_comes_back_whole(
    books: Books, credited: int
) -> None:
    """A price applied anew and taken back again: the note stands for nothing of that."""
    ada, event_id, invoice = await charged_in_june(books)
    await credit(books, invoice, invoice.lines[0], credited)
    await books.adjust(event_id, 60)
    assert await last_lines(books, ada, JULY) == [("correction", 60)]
    await books.adjust(event_id, -60)
    assert await last_lines(books, ada, AUGUST) == [("correction", -60)]
    await books.void(event_id)
    rest = await last_lines(books, ada, month_after(AUGUST))
    assert rest == [("correction", credited - 100)]


async def test_what_a_correction_added_is_given_back_once_too(books: Books) -> None:
    ada, event_id, invoice = await charged_in_june(books)
    await books.adjust(event_id, 50)
    assert await last_lines(books, ada, JULY) == [("correction", 50)]
    more = (await books.invoices_of(ada))[1]
    added = next(line for line in more.lines if line.kind is LineKind.CORRECTION)
    await credit(books, more, added)
    await credit(books, invoice)
    await books.void(event_id)
    assert await last_lines(books, ada, AUGUST) == [("correction", 0)]


async def test_corrections_of_other_lines_are_given_back_whole(books: Books) -> None:
    """June's late usage is a line of its own: a credit note of it is none of the first's."""
    ada, event_id, _invoice = await charged_in_june(books)
    late = await used(books, ada)
    await books.close_and_run(JULY)
    second = (await books.invoices_of(ada))[1]
    await credit(books, second)
    await books.void(event_id)
    await books.void(late)
    lines = await last_lines(books, ada, AUGUST)
    assert sorted(lines) == [("correction", -100), ("correction", 0)]


async def test_a_period_that_was_credited_is_not_written_off_again(books: Books) -> None:
    ada, begins = uuid4(), IN_JUNE
    span = {"begins": begins, "ends": begins + timedelta(days=30)}
    await books.charge(a_charge(ada, 20_000_000, at=IN_JUNE, **span))
    await books.close_and_run(JUNE)
    invoice = await books.invoice_of(ada)
    await credit(books, invoice, invoice.lines[0], 15_000_000)
    written_off = a_charge(ada, -20_000_000, at=IN_JULY, kind=ChargeKind.WRITE_OFF, **span)
    await books.charge(written_off)
    expected = await books.actions.show_balance.of(UserId(ada))
    assert await last_lines(books, ada, JULY) == [("write_off", -5_000_000)]
    # The fee of five beside it is none that was known then.
    balance = await books.actions.show_balance.of(UserId(ada))
    assert balance.expected_microusd - expected.expected_microusd == 5
    with pytest.raises(NothingToCredit):
        await credit(books, invoice)


@pytest.mark.parametrize(("credit_of_change", "debit"), [(-10, 5), (-5, 12)])
async def test_what_a_change_of_plan_charges_is_there_to_be_given_back(
    books: Books, credit_of_change: int, debit: int
) -> None:
    """Of a period that was credited whole, a change costs what it would of any other, and less
    seats cost nothing: the credit of a change comes before its debit."""
    ada = uuid4()
    span = {"begins": IN_JUNE, "ends": IN_JUNE + timedelta(days=30)}
    await books.charge(a_charge(ada, 20_000_000, at=IN_JUNE, **span))
    await books.close_and_run(JUNE)
    await credit(books, await books.invoice_of(ada))
    for amount, kind in (
        (credit_of_change, ChargeKind.PRORATION_CREDIT),
        (debit, ChargeKind.PRORATION_DEBIT),
    ):
        await books.charge(a_charge(ada, amount * 1_000_000, at=IN_JULY, kind=kind, **span))
    expected = (await books.actions.show_balance.of(UserId(ada))).expected_microusd
    lines = await last_lines(books, ada, JULY)
    paid = sum(amount for _kind, amount in lines)
    assert paid == max(0, credit_of_change + debit) * 1_000_000
    assert expected == paid


async def test_credit_notes_that_come_during_a_run_count_or_wait(books: Books) -> None:
    """Whoever is second sees what the first did: nothing is given back by both."""
    ada, event_id, invoice = await charged_in_june(books)
    await books.void(event_id)
    await books.charge(a_charge(ada, 5, at=IN_JULY))
    await books.close(JULY)

    async def whole() -> int:
        try:
            return (await credit(books, invoice)).subtotal_microusd
        except NothingToCredit:
            return 0

    credited, _run = await asyncio.gather(whole(), books.run(JULY))
    second = (await books.invoices_of(ada))[1]
    [line] = [one for one in second.lines if one.kind is LineKind.CORRECTION]
    assert credited - line.amount_microusd == 100
    for one in await books.invoices_of(ada):
        assert (await books.actions.verify_invoice(one.id)).is_sound


async def test_what_a_release_before_has_invoiced_is_put_into_its_families(
    books: Books, database: Database
) -> None:
    ada, event_id, invoice = await charged_in_june(books)
    span = {"begins": IN_JUNE, "ends": IN_JUNE + timedelta(days=30)}
    back = a_charge(ada, -3, at=IN_JULY, kind=ChargeKind.WRITE_OFF, **span)
    await books.charge(a_charge(ada, 7, at=IN_JULY, **span), back)
    await books.adjust(event_id, -40)
    await books.close_and_run(JULY)
    kept = "select line_id, family_id from invoice_line_family order by line_id"
    known = await database.fetch(kept)
    assert len(known) == 3
    folder = Path(str(versions.__path__[0]))
    [file] = folder.glob("*_given_back_once.py")
    migration = importlib.import_module(f"{versions.__name__}.{file.stem}")
    async with database.connection() as connection:
        await connection.execute("alter table invoice_line_family disable trigger user")
        await connection.execute("delete from invoice_line_family")
        page = migration._PAGE.replace("cast(:after as uuid)", "$1::uuid")
        lines = await connection.fetch("select id from invoice_line order by id")
        # What has a family keeps it, and from the last line on there is nothing.
        for after, last in ((UUID(int=0), lines[-1]["id"]),) * 2 + ((lines[-1]["id"], None),):
            assert await connection.fetchval(page, after) == last
        await connection.execute("alter table invoice_line_family enable trigger user")
    assert await database.fetch(kept) == known
    assert (await credit(books, invoice)).subtotal_microusd == 60
    for statement in (
        "update invoice_line_family set family_id = line_id",
        "delete from invoice_line_family",
        "insert into invoice_line_family select id, id from invoice_line where kind = 'usage'",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(statement)


async def test_what_the_release_before_invoices_meanwhile_has_its_families_too(
    books: Books, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on the newer tables during an upgrade, or after a rollback, and knows of none."""
    ada, event_id, invoice = await charged_in_june(books)
    await books.charge(a_charge(ada, 7, at=IN_JULY))
    await books.adjust(event_id, -40)

    async def by_the_release_before(_connection: Connection, _lines: Sequence[InvoiceLine]) -> None:
        return None

    monkeypatch.setattr(invoices, "add_families", by_the_release_before)
    await books.close_and_run(JULY)
    monkeypatch.undo()
    second = (await books.invoices_of(ada))[1]
    assert [line.kind.value for line in second.lines[:2]] == ["fee", "correction"]
    fee, correction = second.lines[:2]
    assert fee.family is not None
    assert correction.family == invoice.lines[0].id
    assert (await credit(books, invoice)).subtotal_microusd == 60
    assert (await books.actions.verify_invoice(second.id)).is_sound


# Anything, in any order


_STEP = st.one_of(
    st.tuples(
        st.just("use"),
        st.sampled_from(["usual", "odd", "dark-horse"]),
        st.booleans(),
        st.sampled_from(["pro", "free"]),
    ),
    st.tuples(st.just("adjust"), st.integers(0, 9), st.integers(-333, 100)),
    st.tuples(st.just("price"), st.integers(0, 9), st.integers(0, 400)),
    st.tuples(st.just("void"), st.integers(0, 9)),
    st.tuples(st.just("credit"), st.integers(0, 9), st.integers(0, 9), st.integers(0, 100)),
    st.tuples(st.just("credit"), st.integers(0, 9), st.integers(0, 9), st.integers(0, 100)),
    st.tuples(st.just("whole"), st.integers(0, 9)),
    st.tuples(st.just("change"), st.integers(0, 9), st.integers(0, 100), st.integers(0, 100)),
    st.tuples(st.just("write_off"), st.integers(0, 9), st.integers(1, 100)),
)
_MONTHS = st.lists(st.lists(_STEP, max_size=8), min_size=2, max_size=4)


@dataclass
class Story:
    """One holder's books, and what was charged and given back of them."""

    books: Books
    month: Month
    holder: UUID = field(default_factory=uuid4)
    uses: list[EventId] = field(default_factory=list)
    fees: list[Any] = field(default_factory=list)

    async def do(self, step: tuple[Any, ...]) -> None:
        await getattr(self, step[0])(*step[1:])

    async def use(self, model: str, is_late: bool, tier: str) -> None:
        at = self.month.period.begins + timedelta(days=9 - 20 * is_late)
        self.uses.append(await self.books.use(self.holder, at=at, tier=tier, model=model))

    async def adjust(self, index: int, delta: int) -> None:
        if self.uses and delta:
            with suppress(AdjustmentNotAcceptable, UsageNotPriced, UsageVoidedAlready):
                await self.books.adjust(self.uses[index % len(self.uses)], delta)

    async def price(self, index: int, cost: int) -> None:
        """Of what had none; what has one keeps it."""
        for event_id in self.uses[index % (len(self.uses) or 1) :]:
            async with self.books.work() as work:
                entry = await work.ledger.get(event_id)
            if entry is not None and entry.rating is None:
                await self.books.price(event_id, cost)
                break

    async def void(self, index: int) -> None:
        if self.uses:
            with suppress(UsageVoidedAlready):
                await self.books.void(self.uses[index % len(self.uses)])

    async def fee(self) -> None:
        fee = a_charge(self.holder, 1_000_001, at=self.month.period.begins)
        await self.books.charge(fee)
        self.fees.append(fee)

    async def write_off(self, index: int, percent: int) -> None:
        """Each period once, as the subscription's life has it."""
        if self.fees:
            fee = self.fees.pop(index % len(self.fees))
            await self._charge_of(
                fee, ChargeKind.WRITE_OFF, -(fee.amount_microusd * percent // 100)
            )

    async def change(self, index: int, back: int, more: int) -> None:
        """Other terms within a period: first the credit, then the debit."""
        if self.fees:
            place = index % len(self.fees)
            fee = self.fees[place]
            less = -(fee.amount_microusd * back // 100)
            debit = fee.amount_microusd * more // 100
            await self._charge_of(fee, ChargeKind.PRORATION_CREDIT, less)
            await self._charge_of(fee, ChargeKind.PRORATION_DEBIT, debit)
            self.fees[place] = replace(fee, amount_microusd=fee.amount_microusd + less + debit)

    async def _charge_of(self, fee: Charge, kind: ChargeKind, amount: int) -> None:
        facts = {"kind": kind, "begins": fee.begins, "ends": fee.ends}
        if amount:
            at = self.month.period.begins
            await self.books.charge(a_charge(self.holder, amount, at=at, **facts))

    async def credit(self, invoice: int, line: int, percent: int) -> None:
        made = await self.books.invoices_of(self.holder)
        if made:
            of = made[invoice % len(made)]
            wanted = of.lines[line % len(of.lines)]
            amount = max(wanted.amount_microusd, 0) * percent // 100
            if wanted.kind is not LineKind.ROUNDING and amount:
                await self._credited(of, wanted, amount)

    async def whole(self, invoice: int) -> None:
        """All that is left of the debits of an invoice."""
        made = await self.books.invoices_of(self.holder)
        if made:
            of = made[invoice % len(made)]
            for line in of.lines:
                if line.amount_microusd > 0 and line.kind is not LineKind.ROUNDING:
                    await self._credited(of, line, None)

    async def _credited(self, of: Invoice, line: InvoiceLine, amount: int | None) -> None:
        with suppress(CreditExceedsLine, NothingToCredit):
            await credit(self.books, of, line, amount)


async def check(story: Story, database: Database) -> None:
    """What is paid in the end is what stands in the ledger, less what credit notes gave back beside
    it, and never less than nothing; every document is proven."""
    invoices = await story.books.invoices_of(story.holder)
    async with story.books.work() as work:
        notes = await work.credit_notes.of(
            UserId(story.holder), invoice_id=None, after=None, most=1000
        )
    for invoice in invoices:
        verified = await story.books.actions.verify_invoice(invoice.id)
        assert verified.is_sound, (
            verified.differences,
            [(one.line, one.differences) for one in verified.lines if one.differences],
        )
    lines = [line for one in invoices for line in one.lines if line.kind is not LineKind.ROUNDING]
    credited: dict[UUID, int] = {}
    for note in notes:
        for one in note.lines:
            known = credited.get(one.line.id, 0)
            credited[one.line.id] = known + one.amount_microusd
    paid: dict[UUID, int] = {}
    for line in lines:
        family = line.family or line.id
        known = paid.get(family, 0)
        paid[family] = known + line.amount_microusd - credited.get(line.id, 0)
    assert all(amount >= 0 for amount in paid.values()), paid
    # The cents, with what is carried, are the lines to the micro-dollar.
    cents = sum(one.total_cents for one in invoices) - sum(one.total_cents for one in notes)
    [rest] = await database.fetch(
        "select coalesce(sum(rest), 0) as rest from (select id, carried_microusd as rest"
        " from invoice where holder_id = $1 union all select id, -carried_microusd"
        " from credit_note where holder_id = $1) d where not exists (select 1 from invoice_item i"
        " where i.source_id = d.id and i.aspect = 'carry')",
        story.holder,
    )
    assert cents * 10_000 + int(rest["rest"]) == sum(paid.values())
    # Nobody pays for more than there is, either: what is kept back was given back by credit notes.
    [stands] = await database.fetch(
        "select coalesce((select sum(basis_points * (cost_microusd + coalesce((select"
        " sum(c.cost_microusd) from ledger_correction c where c.event_id = e.event_id), 0)))"
        " from ledger_entry e join usage_fee f using (tier) where e.user_id = $1), 0) / 10000"
        " + coalesce((select sum(amount_microusd) from charge where holder_id = $1), 0) as due",
        story.holder,
    )
    due, rounded = Fraction(stands["due"]), len(lines)
    assert due - sum(credited.values()) - rounded <= sum(paid.values()) <= due + rounded


async def test_whatever_is_credited_and_corrected_no_more_is_given_back_than_was_charged(
    books: Books, database: Database, clock: StoppedClock
) -> None:
    await books.fee("pro", 10_000, since=ALWAYS)
    await books.fee("free", 3_333, since=ALWAYS)
    clock.forward(timedelta(days=365 * 20))  # there are months enough for all examples
    loop, months_so_far = asyncio.get_running_loop(), [Month.named("2020-01")]

    async def tell(months: list[list[tuple[Any, ...]]]) -> None:
        story = Story(books, months_so_far[0])
        for steps in [*months, []]:
            story.month = months_so_far[0]
            await story.fee()
            for step in steps:
                await story.do(step)
            await books.close_and_run(story.month)
            months_so_far[0] = month_after(story.month)
        await check(story, database)

    @hypothesis_settings(
        max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(months=_MONTHS)
    def run(months: list[list[tuple[Any, ...]]]) -> None:
        asyncio.run_coroutine_threadsafe(tell(months), loop).result()

    await asyncio.to_thread(run)
