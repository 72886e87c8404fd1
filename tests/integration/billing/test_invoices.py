"""Invoices and credit notes on a real database: what they hold, and that they stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from services.billing.actions.end_organisation_subscriptions import Dissolved
from services.billing.actions.report_outside_usage import Told
from services.billing.domain.balance import balance_of
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.closing import Month
from services.billing.domain.crediting import CreditRequest, WantedCredit
from services.billing.domain.errors import (
    CreditExceedsLine,
    CreditKeyReused,
    InvoiceLineNotFound,
    InvoiceNotFound,
    InvoicesOutOfOrder,
    NothingToCredit,
    PeriodNotClosed,
)
from services.billing.domain.invoice import Invoice, InvoiceId, LineId, LineKind, Status
from services.billing.domain.outside_usage import OUTSIDE, OutsideEvent
from services.billing.domain.payment import Payment, PaymentId, PaymentKind, PaymentState
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.subscription import Holder
from services.billing.domain.tax import Taxable, TaxLine, net_cents
from services.billing.settings import Settings
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import UserId, uuid7
from tests.integration.billing.harness import actions_on
from tests.support.billing import (
    FixedPrices,
    StoppedClock,
)
from tests.support.billing_documents import some_details
from tests.support.billing_invoices import A_WHILE, STAFF, Books, a_charge

SEPTEMBER, OCTOBER = Month.named("2026-09"), Month.named("2026-10")
IN_AUGUST, IN_SEPTEMBER, IN_OCTOBER = (datetime(2026, m, 10, tzinfo=UTC) for m in (8, 9, 10))
ALWAYS = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def books(work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings]) -> Books:
    """Billing with a price list of one model that costs 205 micro-dollars a call."""
    actions = actions_on(
        work, settings(), clock, list_prices=FixedPrices(gpt_6_luna=205, dear=10**15)
    )
    return Books(actions, work)


def kinds(invoice: Invoice) -> list[tuple[str, int]]:
    return [(line.kind.value, line.amount_microusd) for line in invoice.lines]


async def an_invoice(books: Books, *amounts: int) -> Invoice:
    """An invoice of September over these charges."""
    holder = uuid4()
    await books.charge(*(a_charge(holder, amount, at=IN_SEPTEMBER) for amount in amounts))
    await books.close_and_run(SEPTEMBER)
    return await books.invoice_of(holder)


def a_request(*lines: WantedCredit, key: str = "once", reason: str = "Not used.") -> CreditRequest:
    return CreditRequest(lines, reason, key, STAFF)


# What stands on an invoice


async def test_an_invoice_has_what_was_charged_and_used_in_its_month(books: Books) -> None:
    ada = uuid4()
    await books.charge(a_charge(ada, 15_000_000, at=IN_SEPTEMBER), a_charge(ada, 7, at=IN_OCTOBER))
    await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    await books.use(ada, at=IN_SEPTEMBER, tier="pro", sandbox=True)
    await books.use(ada, at=IN_OCTOBER, tier="pro")
    run = await books.close_and_run(SEPTEMBER)
    assert (run.holders, run.invoices, run.left) == (1, 1, 0)
    invoice = await books.invoice_of(ada)
    assert kinds(invoice) == [("fee", 15_000_000), ("usage", 0)]
    usage = invoice.lines[1]
    assert (usage.quantity, usage.unit, usage.vendor_cost_microusd) == (1550, "tokens", 205)
    assert usage.facts["requests"] == 1
    assert (invoice.number, invoice.total_cents) == ("TT-2026-000001", 1500)
    assert invoice.status is Status.FINAL
    assert invoice.due_at == (invoice.issued_at or ALWAYS) + timedelta(days=14)


async def test_the_operators_fee_is_a_share_of_the_vendors_cost_by_tier_and_time(
    books: Books,
) -> None:
    ada, middle = uuid4(), datetime(2026, 9, 15, tzinfo=UTC)
    await books.fee("pro", 1000, since=ALWAYS)
    await books.fee("pro", 2000, since=middle)
    for at, tier in ((IN_SEPTEMBER, "pro"), (middle, "pro"), (IN_SEPTEMBER, "free")):
        await books.use(ada, at=at, tier=tier)
    await books.close_and_run(SEPTEMBER)
    invoice = await books.invoice_of(ada)
    found = {(line.facts["tier"], line.facts["fee_basis_points"]): line for line in invoice.lines}
    assert {key: line.amount_microusd for key, line in found.items()} == {
        ("free", 0): 0,
        ("pro", 1000): 21,  # 20.5, half away from zero
        ("pro", 2000): 41,
    }


async def test_what_comes_late_is_on_the_next_invoice_each_once(books: Books) -> None:
    ada = uuid4()
    await books.fee("pro", 10_000, since=ALWAYS)
    on_time = await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    unknown = await books.use(ada, at=IN_SEPTEMBER, tier="pro", model="dark-horse")
    await books.close_and_run(SEPTEMBER)
    await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    await books.use(ada, at=IN_AUGUST, tier="pro")
    await books.adjust(on_time, -100)
    await books.price(unknown, 30)
    await books.close_and_run(OCTOBER)
    first, second = await books.invoices_of(ada)
    assert kinds(first) == [("usage", 0), ("usage", 205)]
    assert [line.vendor_cost_microusd for line in first.lines] == [None, 205]
    assert first.rounding_carried_microusd == 205
    late = [("late_usage", 205), ("late_usage", 30), ("late_usage", 205)]
    assert kinds(second) == [*late, ("correction", -100), ("rounding", 205)]
    assert [line.facts.get("month") for line in second.lines][:4] == [
        *("2026-08", "2026-09", "2026-09", "2026-09")
    ]
    assert [line.facts.get("priced_later") for line in second.lines][:3].count(True) == 1


async def test_quantities_beyond_64_bits_are_kept(books: Books) -> None:
    ada = uuid4()
    await books.fee("pro", 10_000, since=ALWAYS)
    for _ in range(3):
        await books.use(
            ada,
            at=IN_SEPTEMBER,
            tier="pro",
            model="dear",
            input_tokens=10**12,
            output_tokens=10**12,
            cache_read_tokens=0,
        )
    await books.close_and_run(SEPTEMBER)
    [line] = (await books.invoice_of(ada)).lines
    assert (line.quantity, line.amount_microusd) == (6 * 10**12, 3 * 10**15)


async def test_an_organisation_gets_its_own_invoice(books: Books) -> None:
    organisation = uuid4()
    await books.charge(a_charge(organisation, 5_000_000, at=IN_SEPTEMBER, is_organisation=True))
    await books.close_and_run(SEPTEMBER)
    assert (await books.invoice_of(organisation)).is_organisation


# Runs


async def test_a_month_is_invoiced_once_it_is_closed_and_after_the_one_before(
    books: Books,
) -> None:
    with pytest.raises(PeriodNotClosed):
        await books.run(SEPTEMBER)
    await books.close(SEPTEMBER)
    await books.close(OCTOBER)
    with pytest.raises(InvoicesOutOfOrder) as refused:
        await books.run(OCTOBER)
    assert refused.value.facts["next_month"] == "2026-09"
    await books.run(SEPTEMBER)
    assert (await books.run(OCTOBER)).finished_at is not None
    august = Month.named("2026-08")
    await books.close(august)
    with pytest.raises(InvoicesOutOfOrder):
        await books.run(august)


async def test_the_clocks_job_makes_what_is_due(books: Books) -> None:
    assert await books.actions.make_invoices.next_one(within=A_WHILE) is None
    ada = uuid4()
    await books.use(ada, at=IN_SEPTEMBER)
    await books.close(SEPTEMBER)
    run = await books.actions.make_invoices.next_one(within=A_WHILE)
    assert run is not None and run.invoices == 1
    assert await books.actions.make_invoices.next_one(within=A_WHILE) is None
    assert len(await books.invoices_of(ada)) == 1


async def test_a_preview_is_what_the_run_makes_and_leaves_nothing(
    books: Books, database: Database
) -> None:
    ada = uuid4()
    await books.charge(a_charge(ada, 1_234_567, at=IN_SEPTEMBER))
    await books.use(ada, at=IN_SEPTEMBER)
    draft = await books.actions.preview_invoice(Holder(UserId(ada)), SEPTEMBER)
    assert (draft.status, draft.number, draft.issued_at) == (Status.DRAFT, None, None)
    assert await database.fetch("select 1 from invoice_item") == []
    await books.close_and_run(SEPTEMBER)
    issued = await books.invoice_of(ada)
    assert (draft.lines, draft.total_cents) == (issued.lines, issued.total_cents)
    assert await books.actions.preview_invoice(Holder(UserId(ada)), SEPTEMBER) == issued
    with pytest.raises(InvoiceNotFound):
        await books.actions.preview_invoice(Holder(UserId(uuid4())), SEPTEMBER)


async def test_a_carried_rest_alone_is_neither_invoiced_nor_previewed(books: Books) -> None:
    ada = uuid4()
    await books.charge(a_charge(ada, 1_234_567, at=IN_SEPTEMBER))
    await books.close_and_run(SEPTEMBER)
    assert (await books.invoice_of(ada)).rounding_carried_microusd == 4_567
    with pytest.raises(InvoiceNotFound):
        await books.actions.preview_invoice(Holder(UserId(ada)), OCTOBER)
    await books.charge(a_charge(ada, 1_000_000, at=IN_OCTOBER))
    draft = await books.actions.preview_invoice(Holder(UserId(ada)), OCTOBER)
    assert kinds(draft) == [("fee", 1_000_000), ("rounding", 4_567)]


async def test_each_month_is_previewed_by_itself_while_the_one_before_is_not_invoiced(
    books: Books,
) -> None:
    ada, november = Holder(UserId(uuid4())), Month.named("2026-11")
    await books.fee("pro", 10_000, since=ALWAYS)
    first = await books.use(ada.id, at=IN_AUGUST, tier="pro", model="dark-horse")
    await books.charge(a_charge(ada.id, 1_234_567, at=IN_AUGUST))
    await books.close_and_run(Month.named("2026-08"))
    await books.price(first, 30)
    await books.charge(
        *(a_charge(ada.id, 7_000_000, at=IN_SEPTEMBER), a_charge(ada.id, 9_000_001, at=IN_OCTOBER))
    )
    await books.adjust(await books.use(ada.id, at=IN_SEPTEMBER, tier="pro"), -100)
    await books.adjust(await books.use(ada.id, at=IN_OCTOBER, tier="pro"), -10)

    async def previewed(month: Month) -> list[tuple[str, int]]:
        return kinds(await books.actions.preview_invoice(ada, month))

    of_september = [
        *(("fee", 7_000_000), ("usage", 205), ("late_usage", 30), ("correction", -100)),
        ("rounding", 4_567),
    ]
    of_october = [("fee", 9_000_001), ("usage", 205), ("correction", -10)]
    for end in (None, SEPTEMBER):
        if end is not None:
            await books.close(end)
        assert await previewed(SEPTEMBER) == of_september
        assert await previewed(OCTOBER) == of_october
        with pytest.raises(InvoiceNotFound):
            await books.actions.preview_invoice(ada, november)
    # What comes for September after its end is October's, whether or not September is invoiced.
    late = await books.use(ada.id, at=IN_SEPTEMBER, tier="pro")
    await books.adjust(late, -1)
    with_late = [*of_october[:2], ("late_usage", 205), ("correction", -1), ("correction", -10)]
    assert await previewed(OCTOBER) == with_late
    assert await previewed(SEPTEMBER) == of_september
    await books.run(SEPTEMBER)
    carried = (await books.invoices_of(ada.id))[-1].rounding_carried_microusd
    assert await previewed(OCTOBER) == [*with_late, ("rounding", carried)]
    await books.close_and_run(OCTOBER)
    assert kinds((await books.invoices_of(ada.id))[-1]) == [*with_late, ("rounding", carried)]


async def test_a_month_is_previewed_by_itself_until_ones_invoice_of_the_one_before_is_made(
    books: Books,
) -> None:
    holders = [Holder(UserId(uuid4())) for _ in range(2)]
    for holder in holders:
        await books.charge(
            *(a_charge(holder.id, 1_000_001, at=at) for at in (IN_SEPTEMBER, IN_OCTOBER))
        )
    await books.close(SEPTEMBER)
    one_at_a_time = replace(books.actions.make_invoices, page=1)
    begun = await one_at_a_time(SEPTEMBER, by=STAFF, within=timedelta(0))
    assert begun.left == 1
    for holder in holders:
        is_invoiced = bool(await books.invoices_of(holder.id))
        rest = [("rounding", 1)] if is_invoiced else []
        draft = await books.actions.preview_invoice(holder, OCTOBER)
        assert kinds(draft) == [("fee", 1_000_001), *rest]


async def test_the_first_month_of_all_is_previewed_with_what_was_before_once_it_is_closed(
    books: Books,
) -> None:
    ada = Holder(UserId(uuid4()))
    await books.use(ada.id, at=IN_AUGUST, tier="pro")
    await books.use(ada.id, at=IN_SEPTEMBER, tier="pro")
    draft = await books.actions.preview_invoice(ada, SEPTEMBER)
    assert [line.kind for line in draft.lines] == [LineKind.USAGE]
    await books.close(SEPTEMBER)
    draft = await books.actions.preview_invoice(ada, SEPTEMBER)
    assert [line.kind for line in draft.lines] == [LineKind.USAGE, LineKind.LATE_USAGE]
    await books.run(SEPTEMBER)
    assert (await books.invoice_of(ada.id)).lines == draft.lines


async def test_what_is_voided_of_a_meter_takes_its_units_back(
    books: Books, database: Database
) -> None:
    ada = UserId(uuid4())
    prices = UnitPrices(unit=2_000)
    await books.actions.set_price(
        (OUTSIDE, "screenshot"), prices, effective_from=IN_AUGUST, by=STAFF
    )
    for quantity in (3, 10):
        event = OutsideEvent(
            STAFF, "/shots", str(quantity), ada, IN_SEPTEMBER, "screenshot", Decimal(quantity)
        )
        await books.actions.report_outside_usage(
            [Told(0, event, {})], reporter=STAFF, for_anybody=True
        )
    [made_twice] = await database.fetch("select event_id from ledger_entry where units = 10")
    await books.void(made_twice["event_id"])
    [taken_back] = await database.fetch("select units, unit from reporting.usage_corrections")
    assert tuple(taken_back.values()) == (-10, "screenshot")
    await books.close_and_run(SEPTEMBER)
    invoice = await books.invoice_of(ada)
    assert [
        (line.kind.value, line.quantity, line.unit, line.vendor_cost_microusd)
        for line in invoice.lines
    ] == [("usage", 13, "screenshot", 26_000), ("correction", -10, "screenshot", -20_000)]
    assert (await books.actions.verify_invoice(invoice.id)).is_sound
    # Invoices of earlier releases say nothing of a correction's units.
    async with database.connection() as connection:
        await connection.execute("alter table invoice_line disable trigger user")
        await connection.execute(
            "update invoice_line set quantity = 0, unit = 'tokens',"
            " facts = facts - '{unit,units}'::text[] where kind = 'correction'"
        )
    assert (await books.actions.verify_invoice(invoice.id)).is_sound


async def test_a_correction_is_on_no_invoice_before_what_it_corrects(books: Books) -> None:
    ada, grace = uuid4(), uuid4()
    await books.fee("pro", 10_000, since=ALWAYS)
    await books.charge(a_charge(grace, 5, at=IN_SEPTEMBER))
    await books.close(SEPTEMBER)
    for user in (ada, grace):
        await books.void(await books.use(user, at=IN_SEPTEMBER, tier="pro"))
    await books.run(SEPTEMBER)
    assert await books.invoices_of(ada) == []
    assert kinds(await books.invoice_of(grace)) == [("fee", 5)]
    await books.close_and_run(OCTOBER)
    for user in (ada, grace):
        [usage, correction] = (await books.invoices_of(user))[-1].lines[:2]
        assert usage.amount_microusd == -correction.amount_microusd > 0
        assert (usage.kind.value, correction.kind.value) == ("late_usage", "correction")


# Traces, and what guards them


async def test_lines_and_what_they_stand_for_lead_to_each_other(books: Books) -> None:
    ada = UserId(uuid4())
    ids = sorted([await books.use(ada, at=IN_SEPTEMBER) for _ in range(3)])
    await books.charge(charge := a_charge(ada, 5, at=IN_SEPTEMBER))
    await books.close_and_run(SEPTEMBER)
    invoice = await books.invoice_of(ada)
    fee, usage = invoice.lines
    show = books.actions.show_invoice
    page = await show.records(invoice.id, usage.id, by=ada, after=None, most=2)
    rest = await show.records(invoice.id, usage.id, by=ada, after=page[-1].source_id, most=2)
    assert [record.source_id for record in (*page, *rest)] == ids
    assert page[0].entry is not None and page[0].entry.event_id == ids[0]
    [record] = await show.records(invoice.id, fee.id, by=ada, after=None, most=2)
    assert record.charge == charge
    corrected = await books.actions.explain_usage.with_corrections(ids[1], by=ada)
    [found] = await books.actions.explain_usage.invoiced_as(corrected)
    assert (found.number, found.line_id) == (invoice.number, usage.id)
    for stranger in (UserId(uuid4()),):
        with pytest.raises(InvoiceNotFound):
            await show.records(invoice.id, usage.id, by=stranger, after=None, most=2)
    with pytest.raises(InvoiceLineNotFound):
        await show.records(invoice.id, LineId(uuid4()), by=ada, after=None, most=2)


async def test_an_invoice_is_proven_and_a_forgery_is_seen(books: Books, database: Database) -> None:
    ada = uuid4()
    await books.fee("pro", 300, since=ALWAYS)
    await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    changed = await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    await books.use(ada, at=IN_SEPTEMBER, tier="pro", model="dark-horse")
    await books.charge(a_charge(ada, 777, at=IN_SEPTEMBER))
    await books.close_and_run(SEPTEMBER)
    await books.adjust(changed, -5)
    await books.close_and_run(OCTOBER)
    for invoice in await books.invoices_of(ada):
        check = await books.actions.verify_invoice(invoice.id)
        assert check.is_sound, [(c.line.kind, c.differences) for c in check.lines]
    first = (await books.invoices_of(ada))[0]
    async with database.connection() as connection:
        await connection.execute("alter table invoice_item disable trigger user")
        await connection.execute("delete from invoice_item where source_id = $1", changed)
        await connection.execute("alter table invoice_item enable trigger user")
    check = await books.actions.verify_invoice(first.id)
    assert (check.differences, check.missing) == (["missing_records"], 1)
    [wrong] = [one for one in check.lines if one.differences]
    assert wrong.differences == ["count", "ids", "vendor_cost", "amount", "facts", "quantity"]
    with pytest.raises(InvoiceNotFound):
        await books.actions.verify_invoice(InvoiceId(uuid4()))


class FlatTax:
    """A fifth of everything."""

    def tax_for(
        self,
        details: BillingDetails | None,
        lines: Sequence[Taxable],
        at: datetime,
    ) -> Sequence[TaxLine]:
        return (TaxLine.at_rate("VAT", 2_000, net_cents(lines)),)


_KEPT = ("invoice", "invoice_line", "invoice_item", "credit_note", "credit_note_line", "charge")
# What somebody with the database's own rights could do, and what shows it.
_FORGERIES = (
    (
        "update invoice set subtotal_microusd = 10000, net_cents = 1, total_cents = 1",
        {"subtotal", "net", "total"},
    ),
    ("update invoice set total_cents = total_cents + 1", {"total"}),
    ("update invoice set carried_microusd = 7", {"carried"}),
    (
        "update invoice set holder_id = gen_random_uuid(), billed_to = null",
        {"holder"},
    ),
    (
        "update invoice set tax_lines = jsonb_set(tax_lines, '{0,tax_cents}', '0'),"
        " total_cents = net_cents",
        {"tax"},
    ),
    ("delete from invoice_line where kind = 'fee'", {"subtotal", "missing_records", "positions"}),
    ("delete from invoice_line where kind = 'usage'", {"subtotal", "missing_records"}),
    (
        "update invoice_line set facts = facts || '{\"fee_basis_points\": 10000}',"
        " amount_microusd = 4100000 where kind = 'usage'",
        {"subtotal", "amount", "facts"},
    ),
    (
        "update invoice_line set quantity = 99, facts = facts || '{\"seats\": 99}'"
        " where kind = 'fee'",
        {"facts", "quantity"},
    ),
    (
        "update invoice_line set facts = facts || '{\"model\": \"cheap\"}' where kind = 'usage'",
        {"facts"},
    ),
    ("update charge set seats = 99", {"facts", "quantity"}),
    ("update invoice_item set holder_id = gen_random_uuid()", {"holder"}),
    (
        "update credit_note set net_cents = net_cents + 1, total_cents = total_cents + 1",
        {"carried", "taxed_net", "credited"},
    ),
    ("update credit_note set holder_id = gen_random_uuid()", {"holder"}),
    ("update credit_note_line set amount_microusd = 2 * amount_microusd", {"subtotal"}),
    ("delete from credit_note", {"credit_notes"}),
)


async def test_no_part_of_an_invoice_or_its_credit_note_can_be_forged_unseen(
    books: Books, database: Database
) -> None:
    ada = uuid4()
    await books.fee("pro", 300, since=ALWAYS)
    await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    await books.charge(a_charge(ada, 3_004_444, at=IN_SEPTEMBER))
    await books.close(SEPTEMBER)
    taxed = replace(books.actions.make_invoices.terms, tax_rules=FlatTax())
    await replace(books.actions.make_invoices, terms=taxed)(SEPTEMBER, by=STAFF, within=A_WHILE)
    invoice = await books.invoice_of(ada)
    [fee] = [line for line in invoice.lines if line.kind is LineKind.FEE]
    await books.actions.issue_credit_note(invoice.id, a_request(WantedCredit(fee.id, 1_000_001)))

    async def differences() -> set[str]:
        check = await books.actions.verify_invoice(invoice.id)
        found = set(check.differences)
        found |= {name for line in check.lines for name in line.differences}
        found |= {name for note in check.notes for name in note.differences}
        assert check.is_sound is not bool(found)
        return found

    assert await differences() == set()
    async with database.connection() as connection:
        for table in _KEPT:
            await connection.execute(f"alter table {table} disable trigger user")
            await connection.execute(f"create temporary table kept_{table} as table {table}")
        for forgery, shown in _FORGERIES:
            await connection.execute(forgery)
            assert shown <= await differences(), forgery
            for table in _KEPT:
                await connection.execute(f"delete from {table}")
                await connection.execute(f"insert into {table} table kept_{table}")
        for table in _KEPT:
            await connection.execute(f"alter table {table} enable trigger user")
    assert await differences() == set()


# Each of them would change what is final.
_CHANGES = (
    "update invoice set total_cents = 0",
    "delete from invoice",
    "truncate invoice",
    "update invoice_line set amount_microusd = 0",
    "delete from invoice_line",
    "update invoice_item set line_id = gen_random_uuid()",
    "update credit_note set reason = ''",
    "delete from credit_note_line",
    "insert into invoice_line select gen_random_uuid(), invoice_id, 99, kind, facts, quantity,"
    " unit, null, amount_microusd, 0, ids_digest from invoice_line",
    "insert into invoice_item select gen_random_uuid(), 'usage', line_id, holder_id, false"
    " from invoice_item",
    "insert into credit_note_line select credit_note_id, 99, line_id, 0 from credit_note_line",
)


async def test_the_database_keeps_what_is_final(books: Books, database: Database) -> None:
    invoice = await an_invoice(books, 5_000_000)
    await books.actions.issue_credit_note(invoice.id, a_request())
    for statement in _CHANGES:
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(statement)


# Credit notes


async def test_a_whole_invoice_is_credited_to_the_cent(books: Books) -> None:
    invoice = await an_invoice(books, 10_004_999, -4_000_000, 1)
    note = await books.actions.issue_credit_note(invoice.id, a_request())
    assert note.number == "TT-CN-2026-000001"
    assert [line.amount_microusd for line in note.lines] == [10_004_999, 1, -4_000_000]
    assert note.total_cents == invoice.total_cents == 601
    assert note.rounding_carried_microusd == invoice.rounding_carried_microusd
    with pytest.raises(NothingToCredit):
        await books.actions.issue_credit_note(invoice.id, a_request(key="again"))


async def test_parts_of_an_invoice_sum_up_to_it_and_the_rest_is_carried(books: Books) -> None:
    invoice = await an_invoice(books, 333_333)
    [line] = invoice.lines
    cents = 0
    for number, amount in enumerate((111_111, 111_111, None)):
        request = a_request(WantedCredit(line.id, amount), key=str(number))
        cents += (await books.actions.issue_credit_note(invoice.id, request)).total_cents
    assert cents == invoice.total_cents == 33
    await books.charge(a_charge(invoice.holder, 1_000_000, at=IN_OCTOBER))
    await books.close_and_run(OCTOBER)
    second = (await books.invoices_of(invoice.holder))[1]
    assert kinds(second) == [("fee", 1_000_000), ("rounding", 0)]


async def test_no_more_is_credited_than_is_left(books: Books, database: Database) -> None:
    invoice = await an_invoice(books, 1_000_000, -200_000)
    debit, credit = sorted(invoice.lines, key=lambda line: -line.amount_microusd)
    for line, amount in ((debit, 1_000_001), (debit, -1), (credit, 1), (credit, -200_001)):
        with pytest.raises(CreditExceedsLine):
            request = a_request(WantedCredit(line.id, amount))
            await books.actions.issue_credit_note(invoice.id, request)
    with pytest.raises(InvoiceLineNotFound):
        await books.actions.issue_credit_note(
            invoice.id, a_request(WantedCredit(LineId(uuid4()), 1))
        )
    with pytest.raises(InvoiceNotFound):
        await books.actions.issue_credit_note(InvoiceId(uuid4()), a_request())
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute(
            "insert into credit_note_line values ($1, 1, $2, 1000001)", uuid4(), debit.id
        )


async def test_of_many_credits_at_once_as_many_are_given_as_there_is(books: Books) -> None:
    invoice = await an_invoice(books, 1_000_000)
    [line] = invoice.lines

    async def credit(number: int) -> str | None:
        request = a_request(WantedCredit(line.id, 300_000), key=str(number))
        try:
            return (await books.actions.issue_credit_note(invoice.id, request)).number
        except CreditExceedsLine:
            return None

    numbers = await asyncio.gather(*(credit(number) for number in range(6)))
    given = sorted(number for number in numbers if number)
    assert given == [f"TT-CN-2026-{number:06}" for number in (1, 2, 3)]


async def test_the_same_request_is_answered_with_the_same_note(books: Books) -> None:
    invoice = await an_invoice(books, 1_000_000)
    wanted = a_request(WantedCredit(invoice.lines[0].id, 10_000))
    notes = await asyncio.gather(
        *(books.actions.issue_credit_note(invoice.id, wanted) for _ in range(3))
    )
    assert len({note.id for note in notes}) == 1
    assert notes[0].lines == notes[1].lines
    with pytest.raises(CreditKeyReused):
        await books.actions.issue_credit_note(invoice.id, a_request())


# What was paid


async def test_what_was_paid_counts_for_the_oldest_invoice_first(books: Books) -> None:
    ada = UserId(uuid4())
    await books.charge(
        a_charge(ada, 15_000_000, at=IN_SEPTEMBER), a_charge(ada, 10_000_000, at=IN_OCTOBER)
    )
    await books.close_and_run(SEPTEMBER)
    await books.close_and_run(OCTOBER)

    async def standings() -> list[tuple[int, int, int]]:
        async with books.work() as work:
            heads = await work.invoices.heads(holder=ada, most=9)
        found = [head.standing for head in reversed(heads)]
        return [(one.credited_cents, one.paid_cents, one.open_cents) for one in found]

    assert await standings() == [(0, 0, 1500), (0, 0, 1000)]
    async with books.work() as work:
        for amount, state in ((17_000_000, PaymentState.PAID), (9_000_000, PaymentState.OPEN)):
            await work.payments.add(
                Payment(
                    PaymentId(uuid7()),
                    ada,
                    False,
                    PaymentKind.RENEWAL,
                    state,
                    "manual",
                    amount,
                    ada,
                    IN_OCTOBER,
                )
            )
    assert await standings() == [(0, 1500, 0), (0, 200, 800)]
    oldest = (await books.invoices_of(ada))[0]
    await books.actions.issue_credit_note(oldest.id, a_request())
    assert await standings() == [(1500, 0, 0), (0, 1000, 0)]


async def test_invoices_stand_as_the_balance_does(books: Books) -> None:
    ada = UserId(uuid4())
    bought = a_charge(ada, 10_000_000, at=IN_SEPTEMBER)
    # Of another period: of the same one no more could be credited than is left.
    another = a_charge(ada, -8_000_000, at=IN_SEPTEMBER, ends=IN_SEPTEMBER + timedelta(days=9))
    await books.charge(bought, another, a_charge(ada, 10_000_000, at=IN_OCTOBER))
    await books.close_and_run(SEPTEMBER)
    await books.close_and_run(OCTOBER)

    async def open_cents() -> list[int]:
        async with books.work() as work:
            heads = await work.invoices.heads(holder=ada, most=9)
            owed = balance_of(await work.accounts.of(ada)).owed_microusd
        found = [head.standing.open_cents for head in reversed(heads)]
        assert sum(found) == max(owed, 0) // 10_000
        return found

    async def receive(kind: PaymentKind, state: PaymentState, amount: int) -> None:
        id_ = PaymentId(uuid7())
        async with books.work() as work:
            await work.payments.add(
                Payment(id_, ada, False, kind, state, "stripe", amount, ada, IN_OCTOBER)
            )

    assert await open_cents() == [200, 1000]
    # More is taken back of an invoice than it came to: the rest counts for the others.
    first = (await books.invoices_of(ada))[0]
    debit, credit = sorted(first.lines, key=lambda line: -line.amount_microusd)
    await books.actions.issue_credit_note(first.id, a_request(WantedCredit(debit.id), key="1"))
    assert await open_cents() == [0, 200]
    # And what was in favour may be taken back too.
    await books.actions.issue_credit_note(first.id, a_request(WantedCredit(credit.id), key="2"))
    assert await open_cents() == [0, 1000]
    # Money for which nothing was left to do has come, until it is sent back.
    await receive(PaymentKind.ORDER, PaymentState.UNUSED, 3_000_000)
    assert await open_cents() == [0, 700]
    await receive(PaymentKind.REFUND, PaymentState.PAID, -3_000_000)
    assert await open_cents() == [0, 1000]


async def test_the_webhooks_hear_of_invoices_and_credit_notes(
    books: Books, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.billing.storage.webhooks import SqlWebhooks

    told: list[tuple[str, str]] = []

    async def tell(
        _self: object, _holder: UserId, type_: str, data: dict[str, object], **_: str
    ) -> None:
        told.append((type_, str(data["number"])))

    monkeypatch.setattr(SqlWebhooks, "tell", tell)
    invoice = await an_invoice(books, 1_000_000)
    await books.actions.issue_credit_note(invoice.id, a_request())
    assert told == [
        ("invoice.finalized", "TT-2026-000001"),
        ("credit_note.issued", "TT-CN-2026-000001"),
    ]


async def test_the_last_invoice_of_a_business_that_left_has_its_name_and_nothing_else_has_it(
    books: Books, database: Database, clock: StoppedClock
) -> None:
    ada, firm, grace, alan = (UserId(uuid4()) for _ in range(4))
    details, actions = some_details(email="ada@example.com"), books.actions
    assert details.vat_id is not None
    private = replace(details, vat_id=None)
    async with books.work() as work:
        for holder in (Holder(ada), Holder(grace)):
            await work.details.keep(holder, details, clock.now())
        for holder in (Holder(firm, True), Holder(alan)):
            await work.details.keep(holder, private, clock.now())
    await books.charge(
        a_charge(ada, 9_000_000, at=IN_SEPTEMBER),
        a_charge(alan, 9_000_000, at=IN_SEPTEMBER),
        a_charge(firm, 15_000_000, at=IN_SEPTEMBER, is_organisation=True),
    )
    await actions.forget_user.begin([(user, ErasureId(uuid4())) for user in (ada, grace, alan)])
    await actions.end_organisation_subscriptions([Dissolved(firm, ada)])
    await actions.forget_user.watch()
    kept = "select holder_id, email from billing_details"
    rows = await database.fetch(kept)
    assert {(row["holder_id"], row["email"]) for row in rows} == {(ada, None), (firm, None)}
    assert await actions.export_user.details(ada) is None
    assert await actions.drop_left_details() == 0

    await books.close_and_run(SEPTEMBER)

    for gone, known in ((ada, details), (firm, private)):
        assert (await books.invoice_of(gone)).billed_to == replace(known, email=None)
    assert (await books.invoice_of(alan)).billed_to is None
    assert await actions.drop_left_details() == 2
    assert await database.fetch(kept) == []


async def test_who_is_never_invoiced_is_not_kept_for_ever(
    books: Books, database: Database, clock: StoppedClock
) -> None:
    ada = UserId(uuid4())
    async with books.work() as work:
        await work.details.keep(Holder(ada), some_details(), clock.now())
    await books.charge(a_charge(ada, 9_000_000, at=IN_SEPTEMBER))
    await books.actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    clock.forward(timedelta(days=99))
    assert await books.actions.drop_left_details() == 0
    clock.forward(timedelta(days=2))
    assert await books.actions.drop_left_details() == 1
    assert await database.fetch("select 1 from billing_details") == []
