"""Subscriptions that are paid for by hand: booked once, and for the order that was meant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.billing.actions import Actions
from services.billing.domain.closing import Month
from services.billing.domain.errors import (
    PaymentNotFound,
    PaymentSettled,
    SubscriptionNotPaid,
)
from services.billing.domain.payment import PaymentId, PaymentState
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder, State, Subscription
from services.billing.settings import Settings
from shared.db.database import Database
from shared.ids import UserId
from tests.integration.billing.harness import Billing, actions_on
from tests.integration.billing.plans import DAY, STAFF, amounts, buy, choose, order, owed_by
from tests.support.billing import NOON, StoppedClock
from tests.support.billing_invoices import Books


async def test_what_the_billing_team_marks_as_paid_takes_effect_once(
    actions: Actions, database: Database, ada: UserId
) -> None:
    payment = await order(actions, ada, "pro")
    assert await order(actions, ada, "pro") == payment
    assert (await actions.show_subscription(ada)).tier_name == "free"
    bought = await actions.mark_paid(payment, by=STAFF)
    assert (bought.tier_name, bought.state, bought.period_begins) == ("pro", State.ACTIVE, NOON)
    assert await actions.show_subscription(ada) == bought
    with pytest.raises(PaymentNotFound):
        await actions.mark_paid(PaymentId(uuid4()), by=STAFF)
    with pytest.raises(PaymentSettled) as again:
        await actions.mark_paid(payment, by=STAFF)
    assert again.value.facts == {
        "payment_id": str(payment),
        "state": "paid",
        "amount_microusd": 9_000_000,
        "settled_at": NOON,
    }
    assert await amounts(database, ada) == [("period_fee", 9_000_000)]


async def test_of_two_who_mark_it_at_once_one_is_told_that_it_is_booked(
    actions: Actions, database: Database, ada: UserId
) -> None:
    payment = await order(actions, ada, "pro")
    sums = range(10_000_000, 14_000_000, 1_000_000)
    told = await asyncio.gather(
        *(actions.mark_paid(payment, by=STAFF, received_microusd=sum_) for sum_ in sums),
        return_exceptions=True,
    )
    [booked] = [s for s, each in zip(sums, told, strict=True) if isinstance(each, Subscription)]
    assert [type(each) for each in told].count(PaymentSettled) == 3
    [kept] = await database.fetch("select amount_microusd from payment where id = $1", payment)
    assert kept["amount_microusd"] == booked
    assert await amounts(database, ada) == [("period_fee", 9_000_000)]


async def test_what_people_pay_is_whole_cents_and_the_rest_is_in_the_balance(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.forward(11 * DAY + timedelta(hours=7))
    payment = await order(actions, ada, "enterprise", 1)
    [asked] = await database.fetch("select amount_microusd from payment where id = $1", payment)
    await actions.mark_paid(payment, by=STAFF)
    balance = await actions.show_balance.of(ada)
    charged = sum(amount for _, amount in await amounts(database, ada))
    assert asked["amount_microusd"] % 10_000
    assert balance.account.paid_microusd % 10_000 == 0
    assert balance.expected_microusd == charged - balance.account.paid_microusd
    assert 0 < abs(balance.expected_microusd) <= 5_000


async def test_with_tax_what_was_told_to_be_transferred_is_what_came(
    work: NewUnitOfWork,
    clock: StoppedClock,
    settings: Callable[..., Settings],
    ada: UserId,
    tmp_path: Path,
) -> None:
    table = tmp_path / "taxes.json"
    rate = {"country": "DE", "from": "2021-01-01", "basis_points": 1_900}
    seller = {"country": "DE", "vat_id": "DE136695976"}
    table.write_text(json.dumps({"rates": [rate], "seller": seller}))
    actions = actions_on(work, settings(tax_file=table), clock)
    with pytest.raises(SubscriptionNotPaid) as refused:
        await choose(actions, ada, "pro")
    facts = refused.value.facts
    assert (facts["net_cents"], facts["total_cents"]) == (900, 1_071)
    await actions.mark_paid(PaymentId(UUID(facts["payment_id"])), by=STAFF)
    assert (await actions.show_balance.of(ada)).account.paid_microusd == 10_710_000
    clock.forward(31 * DAY)
    await actions.advance_subscriptions()
    clock.forward(DAY)
    await actions.advance_subscriptions()
    [overdue] = await actions.list_past_due(after=None, most=10)
    assert overdue.payment is not None
    assert overdue.gross is not None
    assert overdue.gross.total_cents == 1_071
    await actions.mark_paid(overdue.payment.id, by=STAFF)
    assert (await actions.show_balance.of(ada)).account.paid_microusd == 21_420_000
    assert await actions.list_past_due(after=None, most=10) == []


async def test_an_invoice_has_the_tax_that_was_told_whenever_it_is_made(
    work: NewUnitOfWork,
    clock: StoppedClock,
    settings: Callable[..., Settings],
    ada: UserId,
    tmp_path: Path,
) -> None:
    table = tmp_path / "taxes.json"
    bought_in = Month(clock.now().date().replace(day=1))
    ends = bought_in.period.ends
    rates = [
        {"country": "DE", "from": since, "basis_points": points}
        for since, points in (("2021-01-01", 1_900), (ends.date().isoformat(), 2_100))
    ]
    seller = {"country": "DE", "vat_id": "DE136695976"}
    table.write_text(json.dumps({"rates": rates, "seller": seller}))
    actions = actions_on(work, settings(tax_file=table), clock)
    books = Books(actions, work)
    with pytest.raises(SubscriptionNotPaid) as refused:
        await choose(actions, ada, "pro")
    await actions.mark_paid(PaymentId(UUID(refused.value.facts["payment_id"])), by=STAFF)
    draft = await actions.preview_invoice(Holder(ada), bought_in)

    # A month is invoiced some hours after its end; by then another rate is in effect.
    clock.forward(ends - clock.now() + timedelta(hours=3))
    await books.close_and_run(bought_in)
    invoice = await books.invoice_of(ada)
    [tax] = invoice.tax_lines
    assert (tax.rate_basis_points, invoice.total_cents) == (1_900, 1_071)
    assert (draft.tax_lines, refused.value.facts["total_cents"]) == ((tax,), 1_071)
    assert (await actions.show_balance.of(ada)).owed_microusd == 0


async def test_two_choices_at_once_wait_for_one_payment(
    actions: Actions, database: Database, ada: UserId
) -> None:
    wishes = ["pro", "enterprise"] * 4
    await asyncio.gather(*(order(actions, ada, wish) for wish in wishes))
    rows = await database.fetch("select state from payment where state = 'open'")
    assert len(rows) == 1


async def test_an_order_that_was_replaced_can_still_be_paid_by_a_transfer(
    actions: Actions, database: Database, ada: UserId
) -> None:
    first = await order(actions, ada, "pro")
    second = await order(actions, ada, "enterprise", 2)
    listed = await actions.list_unpaid_orders(ada, before=None, most=10)
    assert [(one.order.id, one.order.state) for one in listed] == [
        (second, PaymentState.OPEN),
        (first, PaymentState.VOID),
    ]
    assert [one.gross.total_cents for one in listed] == [3_000, 900]
    assert (await actions.mark_paid(first, by=STAFF)).tier_name == "pro"
    with pytest.raises(PaymentSettled):
        await actions.mark_paid(first, by=STAFF)
    assert (await actions.mark_paid(second, by=STAFF)).tier_name == "enterprise"
    assert [kind for kind, _ in await amounts(database, ada)] == [
        *("period_fee", "proration_credit", "proration_debit"),
    ]
    assert await actions.list_unpaid_orders(ada, before=None, most=10) == []


async def test_what_was_replaced_and_changes_nothing_any_more_is_unused(
    actions: Actions, ada: UserId
) -> None:
    less = await order(actions, ada, "pro")
    await buy(actions, ada, "enterprise", 2)
    assert (await actions.mark_paid(less, by=STAFF)).tier_name == "enterprise"
    [unused] = await actions.list_unused_payments(after=None, most=10)
    assert (unused.id, unused.amount_microusd) == (less, 9_000_000)


async def test_who_marks_a_payment_is_told_whether_anything_came_of_it(billing: Billing) -> None:
    ada = uuid4()

    async def wish(tier: str, seats: int) -> str:
        body = {"tier": tier, "seats": seats}
        refused = await billing.send("PUT", "subscription", ada, json=body)
        return str(refused.json()["payment_id"])

    async def mark(payment: str, cents: int | None = None) -> dict[str, Any]:
        path = f"admin/payments/{payment}/paid"
        given = {"json": {"amount_cents": cents}} if cents else {}
        told = await billing.send("POST", path, STAFF, role="billing", **given)
        return {"status": told.status_code, **told.json()}

    less, more = await wish("pro", 1), await wish("enterprise", 2)
    names = ("status", "tier", "seats", "payment_id", "payment_state", "received_microusd")
    first, second = await mark(more, 2_950), await mark(less)
    assert [first[name] for name in names] == [200, "enterprise", 2, more, "paid", 29_500_000]
    assert [second[name] for name in names] == [200, "enterprise", 2, less, "unused", 9_000_000]
    again = await mark(less)
    assert (again["status"], again["code"], again["state"]) == (409, "payment_settled", "unused")
    # As all times are written in problem documents.
    assert again["settled_at"].endswith("Z")


async def test_of_two_who_mark_a_replaced_order_at_once_one_books_it(
    actions: Actions, database: Database, ada: UserId
) -> None:
    first = await order(actions, ada, "pro")
    await order(actions, ada, "enterprise")
    told = await asyncio.gather(
        *(actions.mark_paid(first, by=STAFF) for _ in range(4)), return_exceptions=True
    )
    assert [type(each) for each in told].count(PaymentSettled) == 3
    assert await amounts(database, ada) == [("period_fee", 9_000_000)]


async def test_a_transfer_may_take_days_and_its_order_stays(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    first = await order(actions, ada, "pro")
    clock.forward(5 * DAY)
    assert await order(actions, ada, "pro") == first
    assert (await actions.mark_paid(first, by=STAFF)).tier_name == "pro"
    # What is left of a period costs less half a day later: another sum to ask for.
    more = await order(actions, ada, "enterprise")
    clock.forward(timedelta(hours=11))
    assert await order(actions, ada, "enterprise") == more
    clock.forward(timedelta(hours=2))
    assert await order(actions, ada, "enterprise") != more
    assert (await actions.mark_paid(more, by=STAFF)).tier_name == "enterprise"


async def test_what_was_asked_for_before_another_wish_was_paid_is_asked_anew(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    less = await order(actions, ada, "pro")
    whole = await order(actions, ada, "enterprise")
    clock.forward(timedelta(minutes=1))
    await actions.mark_paid(less, by=STAFF)
    rest = await order(actions, ada, "enterprise")
    assert rest != whole
    [asked, replaced, *_] = await actions.list_unpaid_orders(ada, before=None, most=10)
    assert (asked.order.id, replaced.order.id) == (rest, whole)
    assert [one.gross.total_cents for one in (asked, replaced)] == [600, 1_500]


async def test_a_sum_of_the_period_before_is_not_asked_for_in_the_next_one(
    actions: Actions, clock: StoppedClock, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    clock.forward(30 * DAY - timedelta(hours=1))
    little = await order(actions, ada, "enterprise")
    clock.forward(timedelta(hours=2))
    await actions.mark_paid(await owed_by(actions, ada), by=STAFF)
    assert await order(actions, ada, "enterprise") != little


async def test_what_was_replaced_is_paid_at_the_price_of_the_day(
    actions: Actions, database: Database, clock: StoppedClock, ada: UserId
) -> None:
    grace, alan = UserId(uuid4()), UserId(uuid4())
    replaced, waiting, old = [await order(actions, who, "pro") for who in (ada, grace, alan)]
    more = await order(actions, ada, "enterprise")
    await order(actions, ada, "pro")
    for tier, price in (("pro", 12_000_000), ("enterprise", 11_000_000)):
        await actions.set_plan_price(tier, price, effective_from=clock.now() + DAY, by=STAFF)
    clock.forward(2 * DAY)
    assert (await actions.mark_paid(replaced, by=STAFF)).tier_name == "free"
    # What was asked for last stands for as long as a transfer takes.
    assert (await actions.mark_paid(waiting, by=STAFF)).tier_name == "pro"
    assert await amounts(database, grace) == [("period_fee", 9_000_000)]
    clock.forward(29 * DAY)
    assert (await actions.mark_paid(old, by=STAFF)).tier_name == "free"
    unused = await actions.list_unused_payments(after=None, most=10)
    assert {payment.id for payment in unused} == {replaced, old}
    # Of what costs less by now, the rest is in the balance.
    assert (await actions.mark_paid(more, by=STAFF)).tier_name == "enterprise"
    assert await amounts(database, ada) == [("period_fee", 11_000_000)]


async def test_the_billing_team_sees_what_a_holder_was_asked_for(billing: Billing) -> None:
    ada = uuid4()
    asked = [
        (await billing.send("PUT", "subscription", ada, json={"tier": tier})).json()["payment_id"]
        for tier in ("pro", "enterprise", "pro")
    ]

    async def look(**more: Any) -> dict[str, Any]:
        params = {"holder": str(ada), "limit": 2, **more}
        page = await billing.send(
            "GET", "admin/payments/orders", STAFF, role="billing", params=params
        )
        assert page.status_code == 200, page.text
        body: dict[str, Any] = page.json()
        return body

    first = await look()
    assert [row["payment_id"] for row in first["data"]] == asked[:0:-1]
    rest = await look(cursor=first["next_cursor"])
    assert [row["payment_id"] for row in rest["data"]] == asked[:1]
    row = rest["data"][0]
    assert (row["state"], row["tier"], row["total_cents"]) == ("void", "pro", 900)
    assert (await look(holder=str(uuid4())))["data"] == []


async def test_money_that_came_without_a_provider_is_booked_once_by_its_reference(
    billing: Billing,
) -> None:
    ada = UserId(uuid4())
    wanted = {"holder_id": str(ada), "amount_cents": 190, "reference": f"bank/{ada}", "note": "VAT"}

    async def book(**other: Any) -> httpx.Response:
        return await billing.send(
            "POST", "admin/payments", STAFF, role="billing", json=wanted | other
        )

    unknown = await book()
    assert (unknown.status_code, unknown.json()["code"]) == (404, "holder_not_found")
    refused = await billing.send("PUT", "subscription", ada, json={"tier": "pro"})
    order = refused.json()
    assert (order["net_cents"], order["tax_cents"], order["total_cents"]) == (900, 0, 900)
    paid = f"admin/payments/{order['payment_id']}/paid"
    got = await billing.send("POST", paid, STAFF, role="billing", json={"amount_cents": 880})
    assert (got.status_code, got.json()["state"]) == (200, "active")
    booked = await asyncio.gather(*(book() for _ in range(4)))
    assert {answer.status_code for answer in booked} == {201}
    assert len({answer.json()["payment_id"] for answer in booked}) == 1
    replayed = [answer.headers.get("idempotency-replayed") for answer in booked]
    assert sorted(replayed, key=str) == [None, "true", "true", "true"]
    other = await book(amount_cents=191)
    assert (other.status_code, other.json()["code"]) == (409, "payment_reference_used")
    # As somebody copies it out of a statement.
    pasted = await book(reference=f" {wanted['reference']}\u00a0\n")
    assert pasted.json() == booked[0].json(), pasted.text
    assert (await book(reference=" \t ")).status_code == 422
    back = await book(amount_cents=-90, reference=f"back/{ada}")
    assert (back.json()["kind"], back.json()["amount_microusd"]) == ("refund", -900_000)
    balance = (await billing.get("balance", ada)).json()
    assert (balance["paid_microusd"], balance["returned_microusd"]) == (10_700_000, 900_000)
    for wrong in (
        {"amount_cents": 0},
        {"amount_cents": 1.5},
        {"reference": ""},
        {"note": "x" * 301},
    ):
        assert (await book(**({"reference": "another"} | wrong))).status_code == 422


async def test_an_unused_payment_that_was_dealt_with_is_listed_no_more(
    billing: Billing,
) -> None:
    ada, grace = uuid4(), uuid4()
    for holder in (ada, grace):
        await billing.database.execute(
            "insert into payment (id, holder_id, is_organisation, kind, state, provider,"
            " amount_microusd, asked_by, created_at)"
            " values ($1, $1, false, 'order', 'unused', 'stripe', 9000000, $1, now())",
            holder,
        )

    async def unused() -> set[str]:
        page = await billing.send(
            "GET", "admin/payments/unused", STAFF, role="billing", params={"limit": 200}
        )
        return {row["payment_id"] for row in page.json()["data"]} & {str(ada), str(grace)}

    async def settle(payment: UUID, cents: int) -> httpx.Response:
        body = {"holder_id": str(ada), "amount_cents": cents, "reference": f"{payment}/{cents}"}
        body |= {"note": "Paid twice.", "payment_id": str(payment)}
        return await billing.send("POST", "admin/payments", STAFF, role="billing", json=body)

    assert await unused() == {str(ada), str(grace)}
    somebody_elses = await settle(grace, -900)
    assert (somebody_elses.status_code, somebody_elses.json()["code"]) == (404, "payment_not_found")
    assert (await settle(ada, -900)).status_code == 201
    assert (await settle(ada, -900)).headers["idempotency-replayed"] == "true"
    assert await unused() == {str(grace)}
    # Booked first without it, and then with it: it counts as dealt with all the same.
    money = {
        "holder_id": str(grace),
        "amount_cents": -900,
        "reference": f"{grace}",
        "note": "Twice.",
    }

    async def book(**more: Any) -> httpx.Response:
        body = money | more
        return await billing.send("POST", "admin/payments", STAFF, role="billing", json=body)

    assert (await book()).status_code == 201
    # What is dealt with already, and somebody else's, is not by this.
    others = await book(payment_id=str(ada))
    assert (others.status_code, others.json()["code"]) == (409, "payment_reference_used")
    assert await unused() == {str(grace)}
    for _twice in range(2):
        settled = await book(payment_id=str(grace))
        assert settled.headers["idempotency-replayed"] == "true"
        assert await unused() == set()
    assert (await settle(ada, 0)).status_code == 404
    balance = (await billing.get("balance", ada)).json()
    assert (balance["paid_microusd"], balance["returned_microusd"]) == (9_000_000, 9_000_000)
    # What a refusal left behind was rolled back.
    rows = await billing.database.fetch("select kind from payment where holder_id = $1", ada)
    assert sorted(row["kind"] for row in rows) == ["order", "refund"]
