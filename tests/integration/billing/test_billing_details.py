"""Whom invoices are made out to, and what is owed, through billing's doors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.billing.actions import Actions
from services.billing.actions.end_organisation_subscriptions import Dissolved
from services.billing.domain.charge import Charge, ChargeId, ChargeKind
from services.billing.domain.invoice import InvoiceId
from services.billing.domain.payment import Payment, PaymentId, PaymentKind, PaymentState
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder
from services.billing.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import UserId, uuid7
from tests.integration.billing.harness import Billing
from tests.integration.billing.organisations import Place
from tests.support.billing import StoppedClock
from tests.support.billing_documents import an_invoice, some_details
from tests.support.problems import code_of

DETAILS: dict[str, Any] = {
    "name": "Example Widgets GmbH",
    "address_lines": ["Beispielstraße 12"],
    "city": "Berlin",
    "postal_code": "10999",
    "country": "DE",
    "vat_id": "DE 123 456 789",
    "email": "accounts@example.com",
    "purchase_order": "PO-7",
}


async def told(office: Billing, user: UUID, **changes: Any) -> httpx.Response:
    return await office.send("PUT", "details", user, json={**DETAILS, **changes})


async def test_what_was_told_is_shown_and_told_anew(office: Billing) -> None:
    ada = uuid4()
    assert code_of(await office.get("details", ada)) == (404, "billing_details_not_found")
    kept = await told(office, ada)
    assert kept.status_code == 200, kept.text
    assert kept.json() == {**DETAILS, "vat_id": "DE123456789", "organisation_id": None}
    await told(office, ada, name="Other GmbH", vat_id=None)
    shown = (await office.get("details", ada)).json()
    assert (shown["name"], shown["vat_id"]) == ("Other GmbH", None)
    assert code_of(await office.get("details", uuid4())) == (404, "billing_details_not_found")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"country": "ZZ"}, "billing_details_not_acceptable"),
        ({"vat_id": "DE1"}, "billing_details_not_acceptable"),
        ({"name": "a\u0000b"}, "billing_details_not_acceptable"),
        ({"city": "a\u202eb"}, "billing_details_not_acceptable"),
        ({"email": "nobody"}, "billing_details_not_acceptable"),
        ({"name": "x" * 201}, "invalid_request"),
        ({"address_lines": []}, "invalid_request"),
        ({"address_lines": "street"}, "invalid_request"),
        ({"unknown": 1}, "invalid_request"),
    ],
)
async def test_what_cannot_stand_on_an_invoice_is_refused(
    office: Billing, changes: dict[str, Any], code: str
) -> None:
    ada = uuid4()
    refused = await told(office, ada, **changes)
    assert code_of(refused) == (422, code)
    assert (await office.get("details", ada)).status_code == 404


async def test_who_buys_for_an_organisation_tells_its_details(
    office: Billing, members: dict[Place, str]
) -> None:
    firm, ada, grace = uuid4(), uuid4(), uuid4()
    members[firm, ada], members[firm, grace] = "billing", "member"
    whose = {"organisation_id": str(firm)}
    assert (await told(office, ada, **whose)).status_code == 200
    shown = await office.get("details", ada, params=whose)
    assert shown.json()["name"] == DETAILS["name"]
    # What was read is sent back as it is, and nobody's own details are written by it.
    again = await office.send("PUT", "details", ada, json={**shown.json(), "city": "Lampton"})
    assert again.status_code == 200, again.text
    assert (await office.get("details", ada)).status_code == 404
    assert (await office.get("details", ada, params=whose)).json()["city"] == "Lampton"
    for user, code in (
        (grace, (403, "organisation_billing_required")),
        (uuid4(), (404, "subscription_not_found")),
    ):
        assert code_of(await told(office, user, **whose)) == code
        assert code_of(await office.get("details", user, params=whose)) == code
        assert code_of(await office.get("balance", user, params=whose)) == code
    assert (await office.get("balance", ada, params=whose)).status_code == 200


async def test_a_token_that_only_reads_tells_nothing(office: Billing) -> None:
    headers = office.mint.headers(uuid4(), scope="billing:read")
    answer = await office.public.put("/billing/details", json=DETAILS, headers=headers)
    assert code_of(answer) == (403, "scope_missing")


async def test_details_are_forgotten_with_their_user_and_organisation(
    actions: Actions, database: Database
) -> None:
    ada, grace, firm = (UserId(uuid4()) for _ in range(3))
    for holder in (Holder(ada), Holder(grace)):
        await actions.keep_billing_details(holder, some_details(), by=holder.id)
    async with SqlWork(database) as work:
        await work.details.keep(Holder(firm, True), some_details(), datetime.now(UTC))
    assert await actions.export_user.details(ada) == some_details()

    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    await actions.end_organisation_subscriptions([Dissolved(firm, grace)])

    rows = await database.fetch("select holder_id from billing_details")
    assert [row["holder_id"] for row in rows] == [grace]
    assert await actions.export_user.details(ada) is None


async def test_the_balance_is_invoices_less_credit_notes_less_payments(
    actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    ada = UserId(uuid4())
    nothing = await actions.show_balance(Holder(ada), by=ada)
    assert (nothing.owed_microusd, nothing.expected_microusd) == (0, 0)
    async with work() as one:
        for kind, state, amount in (
            (PaymentKind.ORDER, PaymentState.PAID, 15_000_000),
            (PaymentKind.RENEWAL, PaymentState.PAID, 14_990_000),
            (PaymentKind.ORDER, PaymentState.UNUSED, 1_000_000),
            (PaymentKind.ORDER, PaymentState.OPEN, 99_000_000),
            (PaymentKind.RENEWAL, PaymentState.VOID, 99_000_000),
            (PaymentKind.REFUND, PaymentState.PAID, -5_000_000),
        ):
            await one.payments.add(_payment(ada, kind, state, amount))
    balance = await actions.show_balance.of(ada)
    assert balance.account.paid_microusd == 30_990_000
    assert balance.account.returned_microusd == 5_000_000
    assert balance.owed_microusd == -25_990_000
    assert balance.expected_microusd == -25_990_000


async def test_what_no_invoice_has_yet_is_shown_apart(
    actions: Actions, work: NewUnitOfWork, clock: StoppedClock
) -> None:
    ada = UserId(uuid4())
    invoice = an_invoice(id=InvoiceId(uuid7()), holder=ada)
    async with work() as one:
        await one.charges.add([_charge(ada, 15_000_000, clock.now())])
        await one.payments.add(_payment(ada, PaymentKind.ORDER, PaymentState.PAID, 15_000_000))
        await one.invoices.add([invoice])
    balance = await actions.show_balance.of(ada)
    assert balance.account.invoiced_cents == invoice.total_cents == 5561
    assert balance.account.carried_microusd == invoice.rounding_carried_microusd == 305
    assert balance.account.uninvoiced_microusd == 15_000_000
    assert balance.owed_microusd == 55_610_000 - 15_000_000
    assert balance.expected_microusd == 55_610_305


def _charge(holder: UserId, amount: int, at: datetime) -> Charge:
    return Charge(
        id=ChargeId(uuid7()),
        holder=holder,
        is_organisation=False,
        kind=ChargeKind.PERIOD_FEE,
        tier_name="pro",
        seats=1,
        unit_price_microusd=amount,
        price_version="test/1",
        begins=at,
        ends=at + timedelta(days=30),
        amount_microusd=amount,
        effect_key=f"test/{uuid4()}",
        revision=1,
        charged_at=at,
    )


def _payment(holder: UserId, kind: PaymentKind, state: PaymentState, amount: int) -> Payment:
    now = datetime.now(UTC)
    return Payment(PaymentId(uuid7()), holder, False, kind, state, "manual", amount, holder, now)


async def test_only_the_billing_team_sees_anybodys_balance(office: Billing) -> None:
    ada, staff = uuid4(), uuid4()
    own = await office.get("balance", ada)
    assert own.json()["owed_usd"] == "0.000000"
    path = f"admin/balances/{ada}"
    shown = await office.send("GET", path, staff, role="billing")
    assert shown.json() == own.json()
    assert code_of(await office.send("GET", path, ada)) == (403, "not_billing_staff")
