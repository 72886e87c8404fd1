"""The doors of invoices: whose they are, what they give, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from services.billing.domain.closing import Month
from services.billing.storage.unit_of_work import SqlWork
from shared.ids import UserId
from tests.integration.billing.harness import Billing, actions_on
from tests.support.billing import StoppedClock
from tests.support.billing_invoices import Books, a_charge

# Long ago, since the books are shared with other tests, and a month is closed for good.
MONTH = Month.named("2020-07")
AT = datetime(2020, 7, 10, tzinfo=UTC)
STAFF, ADA, GRACE = uuid4(), uuid4(), uuid4()


def books_of(billing: Billing) -> Books:
    def work() -> SqlWork:
        return SqlWork(billing.database)

    actions = actions_on(work, billing.settings, StoppedClock())
    return Books(actions, work)


async def test_from_the_run_to_the_credit_note(billing: Billing) -> None:
    books = books_of(billing)
    await books.charge(a_charge(ADA, 15_000_000, at=AT))
    for _ in range(3):
        await books.use(ADA, at=AT, tier="pro")
    await books.close(MONTH)
    draft = await billing.send(
        "GET", f"admin/invoices/preview?holder={ADA}&month=2020-07", STAFF, role="billing"
    )
    assert (draft.status_code, draft.json()["status"]) == (200, "draft")
    asked = {"json": {"month": "2020-07"}}
    run = await billing.send("POST", "admin/invoices/run", STAFF, role="billing", **asked)
    assert run.status_code == 202, run.text
    assert (run.json()["invoices"], run.json()["left"]) == (1, 0)

    [head] = (await billing.get("invoices", ADA)).json()["data"]
    assert (head["number"], head["total_cents"], head["open_cents"]) == (
        *("TT-2026-000001", 1500, 1500),
    )
    path = f"invoices/{head['id']}"
    invoice = (await billing.get(path, ADA)).json()
    fee, usage = invoice["lines"]
    assert (fee["kind"], usage["kind"], usage["records"]) == ("fee", "usage", 3)
    assert (fee["amount_usd"], fee["vendor_cost_usd"]) == ("15.000000", None)
    assert fee["facts"]["unit_price_usd"] == "15.000000"
    assert (invoice["subtotal_usd"], invoice["rounding_carried_usd"]) == (
        f"{invoice['subtotal_microusd'] / 1_000_000:.6f}",
        f"{invoice['rounding_carried_microusd'] / 1_000_000:.6f}",
    )
    page = (await billing.get(f"{path}/lines/{usage['id']}/records?limit=2", ADA)).json()
    rest = await billing.get(
        f"{path}/lines/{usage['id']}/records?cursor={page['next_cursor']}", ADA
    )
    ids = [one["usage"]["event_id"] for one in page["data"] + rest.json()["data"]]
    assert len(set(ids)) == 3
    life = (await billing.get(f"usage/records/{ids[0]}", ADA)).json()
    assert [(one["number"], one["position"]) for one in life["invoiced_as"]] == [
        ("TT-2026-000001", 2)
    ]
    check = await billing.send("GET", f"admin/{path}/verify", STAFF, role="billing")
    assert check.json()["sound"] is True

    page_of = await billing.get(path, ADA, headers={"accept": "text/html,*/*;q=0.1"})
    assert page_of.headers["content-type"].startswith("text/html")
    assert "TT-2026-000001" in page_of.text
    pdf = await billing.get(f"{path}?format=pdf", ADA)
    assert (pdf.headers["content-type"], pdf.content[:5]) == ("application/pdf", b"%PDF-")

    wanted = {"lines": [{"line_id": fee["id"], "amount_microusd": 5_000_000}], "reason": "Sorry."}
    credit = f"/billing/admin/{path}/credit-notes"
    headers = {**billing.mint.headers(STAFF, role="billing"), "idempotency-key": "one"}
    note = await billing.public.post(credit, json=wanted, headers=headers)
    assert (note.status_code, note.json()["total_cents"]) == (201, 500), note.text
    again = await billing.public.post(credit, json=wanted, headers=headers)
    assert again.json() == note.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in note.headers
    other = await billing.public.post(credit, json={"reason": "Other."}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "credit_key_reused")
    without = await billing.send(
        "POST", f"admin/{path}/credit-notes", STAFF, role="billing", json=wanted
    )
    assert without.status_code == 422
    [seen] = (await billing.get("credit-notes", ADA)).json()["data"]
    assert seen == (await billing.get(f"credit-notes/{seen['id']}", ADA)).json()
    html = await billing.get(f"credit-notes/{seen['id']}?format=html", ADA)
    assert "TT-CN-2026-000001" in html.text
    assert (await billing.get(path, ADA)).json()["open_cents"] == 1000

    await _nobody_else_sees(billing, path, usage["id"], seen["id"])
    await _the_team_sees(billing, path, usage["id"], seen)
    await _an_export_has_it(billing)


async def _nobody_else_sees(billing: Billing, path: str, line_id: str, note_id: str) -> None:
    for hidden in (path, f"{path}/lines/{line_id}/records", f"credit-notes/{note_id}"):
        answer = await billing.get(hidden, GRACE)
        assert answer.status_code == 404, hidden
    assert (await billing.get("invoices", GRACE)).json()["data"] == []
    for route in ("invoices", path, f"{path}/verify", "credit-notes", "usage-fees"):
        refused = await billing.send("GET", f"admin/{route}", ADA)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_billing_staff")


async def _the_team_sees(billing: Billing, path: str, line_id: str, note: dict[str, Any]) -> None:
    async def shown(route: str, **options: Any) -> Any:
        answer = await billing.send("GET", f"admin/{route}", STAFF, role="billing", **options)
        assert answer.status_code == 200, answer.text
        return answer

    records = f"{path}/lines/{line_id}/records"
    own = (await billing.get(records, ADA)).json()
    assert (await shown(records, params={"reason": "asked why"})).json() == own
    paged = (await shown(f"{records}?limit=1")).json()
    assert (paged["data"], paged["next_cursor"] is None) == (own["data"][:1], False)
    of_note = f"credit-notes/{note['id']}"
    assert (await shown(of_note)).json() == note
    pdf = await shown(f"{of_note}?format=pdf")
    assert pdf.content == (await billing.get(f"{of_note}?format=pdf", ADA)).content
    looks = (await billing.get("looks", ADA)).json()["data"]
    calls = [look["call"] for look in looks]
    assert calls.count("GET /billing/admin/credit-notes/{credit_note_id}") == 2
    of_line = "GET /billing/admin/invoices/{invoice_id}/lines/{line_id}/records"
    assert calls.count(of_line) == 2
    for route in (records, of_note):
        refused = await billing.send("GET", f"admin/{route}", ADA)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_billing_staff")


async def _an_export_has_it(billing: Billing) -> None:
    export = books_of(billing).actions.export_user
    pages = [page async for page in export.invoices(UserId(ADA))]
    assert [invoice.number for page in pages for invoice, _ in page] == ["TT-2026-000001"]
    charged = [page async for page in export.charges(UserId(ADA))]
    assert [charge.amount_microusd for page in charged for charge in page] == [15_000_000]
    notes = [page async for page in export.credit_notes(UserId(ADA))]
    assert [note.number for page in notes for note in page] == ["TT-CN-2026-000001"]


async def test_what_runs_fees_and_lists_refuse(billing: Billing) -> None:
    async def told(method: str, path: str, **options: Any) -> tuple[int, str]:
        answer = await billing.send(method, path, STAFF, role="billing", **options)
        return answer.status_code, answer.json().get("code", "")

    run = "admin/invoices/run"
    assert await told("POST", run, json={"month": "2026-10"}) == (409, "period_not_closed")
    assert await told("POST", run, json={"month": "2026-13"}) == (422, "bad_month")
    assert await told("GET", "admin/invoices?month=2026-99") == (422, "bad_month")
    assert await told("GET", "admin/invoices?cursor=nonsense") == (422, "bad_cursor")
    assert await told("GET", f"admin/invoices/{uuid4()}") == (404, "invoice_not_found")
    fee = {"tier": "pro", "basis_points": 150, "effective_from": "2027-01-01T00:00:00Z"}
    assert (await told("POST", "admin/usage-fees", json=fee))[0] == 201
    assert await told("POST", "admin/usage-fees", json=fee) == (409, "usage_fee_exists")
    unknown = {**fee, "tier": "golden"}
    assert await told("POST", "admin/usage-fees", json=unknown) == (422, "unknown_tier")
    seats = {**fee, "tier": "enterprise"}
    assert await told("POST", "admin/usage-fees", json=seats) == (422, "usage_fee_not_for_seats")
    # One that was set before this was refused can be ended.
    assert (await told("POST", "admin/usage-fees", json={**seats, "basis_points": 0}))[0] == 201
    too_much = {**fee, "basis_points": 10_001}
    assert (await told("POST", "admin/usage-fees", json=too_much))[0] == 422
    past = {**fee, "effective_from": "2026-01-01T00:00:00Z"}
    assert await told("POST", "admin/usage-fees", json=past) == (422, "effective_from_past")
    fees = await billing.send("GET", "admin/usage-fees", STAFF, role="billing")
    assert [one["basis_points"] for one in fees.json()["data"]] == [0, 150]
