"""Things that happen at once, or after each other in an order that nobody planned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Wanted
from services.billing.actions.verify_invoice import VerifyInvoice
from services.billing.domain.closing import Month
from services.billing.domain.crediting import CreditRequest, WantedCredit
from services.billing.domain.errors import TrialUsed
from services.billing.domain.invoice import Invoice, LineKind
from services.billing.domain.payment import Booking
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.subscription import Holder, State
from services.billing.settings import Settings
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.harness import actions_on
from tests.integration.billing.plans import amounts, buy, choose
from tests.support.billing import FixedPrices, StoppedClock
from tests.support.billing_documents import some_details
from tests.support.billing_invoices import STAFF, Books, a_charge

SEPTEMBER, OCTOBER = Month.named("2026-09"), Month.named("2026-10")
IN_SEPTEMBER, IN_OCTOBER = (datetime(2026, m, 10, tzinfo=UTC) for m in (9, 10))
MODEL = ("openai", "gpt-6-luna")


@pytest.fixture
def books(work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings]) -> Books:
    """Billing with a price list of one model that costs 205 micro-dollars a call."""
    prices = FixedPrices(gpt_6_luna=205)
    return Books(actions_on(work, settings(), clock, list_prices=prices), work)


def sums(invoice: Invoice) -> list[tuple[str, int | None, int]]:
    return [
        (line.kind.value, line.vendor_cost_microusd, line.amount_microusd) for line in invoice.lines
    ]


async def is_sound(books: Books, *invoices: Invoice) -> bool:
    verify: VerifyInvoice = books.actions.verify_invoice
    return all([(await verify(invoice.id)).is_sound for invoice in invoices])


async def test_a_trial_its_purchase_and_all_seats_within_one_second(
    actions: Actions, database: Database, ada: UserId
) -> None:
    trial = Wanted("enterprise", 3, trial=True)
    tried = await actions.change_subscription(Holder(ada), trial, by=ada)
    assert (tried.subscription.state, tried.charges) == (State.TRIALING, ())
    for seats in (3, 5, 6):
        await buy(actions, ada, "enterprise", seats)
    later = (await choose(actions, ada, "enterprise", 2)).subscription
    assert (later.seats, later.next_seats) == (6, 2)
    await actions.cancel_subscription(Holder(ada), by=ada)
    resumed = await actions.resume_subscription(Holder(ada), by=ada)
    assert (resumed.seats, resumed.cancels) == (6, False)
    charged = [amount for _kind, amount in await amounts(database, ada)]
    assert sum(charged) == 6 * 15_000_000
    balance = await actions.show_balance.of(ada)
    assert (balance.account.paid_microusd, balance.expected_microusd) == (90_000_000, 0)
    with pytest.raises(TrialUsed):
        await actions.change_subscription(Holder(ada), trial, by=ada)


async def test_a_price_that_begins_in_an_invoiced_month_is_a_correction_of_the_next(
    books: Books, clock: StoppedClock
) -> None:
    ada, actions = uuid4(), books.actions
    await books.fee("free", 2_500, since=datetime(2020, 1, 1, tzinfo=UTC))
    await books.use(ada, at=IN_SEPTEMBER)
    dark = await books.use(ada, at=IN_SEPTEMBER, model="dark-horse")
    await books.close_and_run(SEPTEMBER)
    first = await books.invoice_of(ada)
    assert sums(first) == [("usage", None, 0), ("usage", 205, 51)]
    for model in (MODEL, ("openai", "dark-horse")):
        prices = UnitPrices(input=1_000_000, output=1_000_000)
        since = IN_SEPTEMBER - timedelta(days=1)
        await actions.set_price(model, prices, effective_from=since, by=STAFF, rerate=True)
    clock.forward(timedelta(minutes=3))
    await actions.link_ledger()
    # What waits for a price is rated by it, and needs no correction.
    assert (await actions.rerate_usage(), await actions.rate_unpriced_usage()) == (1, 1)
    assert (await actions.rerate_usage(), await actions.rate_unpriced_usage()) == (0, 0)
    await books.void(dark)
    await books.close_and_run(OCTOBER)
    _, second = await books.invoices_of(ada)
    cost = 1_550
    assert sorted(sums(second), key=str) == [
        ("correction", -cost, -388),
        ("correction", cost - 205, 336),
        ("late_usage", cost, 388),
        ("rounding", None, 51),
    ]
    assert await is_sound(books, first, second)


async def test_a_credit_of_what_was_corrected_in_a_month_that_was_waived(
    books: Books,
) -> None:
    ada = uuid4()
    await books.fee("free", 10_000, since=datetime(2020, 1, 1, tzinfo=UTC))
    used = await books.use(ada, at=IN_SEPTEMBER)
    dark = await books.use(ada, at=IN_SEPTEMBER, model="dark-horse")
    await books.adjust(used, -5)
    await books.close(SEPTEMBER)
    period, _ = await books.actions.show_period(SEPTEMBER)
    assert {finding.code for finding in period.waived} >= {"unpriced", "unlinked"}
    await books.price(dark, 100)
    await books.run(SEPTEMBER)
    first = await books.invoice_of(ada)
    await books.adjust(used, -50)
    lines = [line for line in first.lines if line.kind is LineKind.USAGE]
    request = CreditRequest([WantedCredit(line.id) for line in lines], "Not used.", "one", STAFF)
    note = await books.actions.issue_credit_note(first.id, request)
    rest = CreditRequest([], "Nor that.", "rest", STAFF)
    other = await books.actions.issue_credit_note(first.id, rest)
    assert note.net_cents + other.net_cents == first.net_cents
    await books.close_and_run(OCTOBER)
    invoices = await books.invoices_of(ada)
    assert await is_sound(books, *invoices)
    # A correction comes by itself, and gives back what was not credited: nothing is left of it.
    assert [sums(invoice) for invoice in invoices] == [
        [("usage", 100, 100), ("usage", 205, 205), ("correction", -5, -5)],
        [("correction", -50, 0), ("rounding", None, 0)],
    ]


async def test_an_invoice_of_who_left_is_still_paid_and_credited(
    books: Books, database: Database, clock: StoppedClock
) -> None:
    ada, actions = UserId(uuid4()), books.actions
    await actions.keep_billing_details(Holder(ada), some_details(), by=ada)
    await books.charge(a_charge(ada, 15_000_000, at=IN_SEPTEMBER))
    await books.close_and_run(SEPTEMBER)
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    invoice = await books.invoice_of(ada)
    assert invoice.billed_to is not None
    booking = Booking(ada, 500, "bank/1", "A part of it.")
    for is_known in (False, True):
        assert (await actions.book_payment(booking, by=STAFF))[1] is is_known
    await actions.issue_credit_note(invoice.id, CreditRequest([], "They left.", "one", STAFF))
    account = (await actions.show_balance.of(ada)).account
    assert (account.invoiced_cents, account.credited_cents) == (1_500, 1_500)
    assert account.paid_microusd == 5_000_000
    assert await is_sound(books, invoice)
    assert await database.fetch("select * from billing_details where holder_id = $1", ada) == []
