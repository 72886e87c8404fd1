"""What auth collects of billing for somebody who asks for all their data."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx

from shared.identity import ServiceIdentity
from tests.integration.billing.harness import Billing
from tests.integration.billing.test_invoice_api import books_of
from tests.integration.billing.test_outside_usage import Service, an_event
from tests.support.billing import a_usage
from tests.support.billing_invoices import a_charge


async def export_of(
    billing: Billing, identities: Path, user: UUID, *, by: str = "auth"
) -> httpx.Response:
    me = ServiceIdentity.from_file(by, identities / f"{by}.pem")
    headers = {"authorization": f"Bearer {me.token_for('billing')}"}
    return await billing.internal.get(f"/internal/users/{user}/export", headers=headers)


async def test_all_of_theirs_and_nothing_of_others(billing: Billing, identities: Path) -> None:
    ada, grace = uuid4(), uuid4()
    address = {"name": "Lamp & Sons", "address_lines": ["1 Lamp Street"], "city": "Lampton"}
    kept = await billing.send("PUT", "details", ada, json={**address, "country": "DE"})
    assert kept.status_code == 200, kept.text
    await billing.send("PUT", "alerts", ada, json={"monthly_spend_microusd": [7]})
    # More than a page of them, in a month that no other test closes.
    charges = [
        a_charge(ada, amount, at=datetime(2026, 11, 1, tzinfo=UTC)) for amount in range(1, 42)
    ]
    await books_of(billing).charge(*charges)
    await billing.record(a_usage(user=ada), a_usage(user=grace))
    transfer = {
        "holder_id": str(ada),
        "amount_cents": 900,
        "reference": f"transfer-{ada}",
        "note": "by post",
    }
    booked = await billing.send("POST", "admin/payments", uuid4(), role="billing", json=transfer)
    assert booked.status_code in (200, 201), booked.text

    export = (await export_of(billing, identities, ada)).json()
    assert set(export) == {
        *("subscription", "subscription_changes", "billing_details", "charges", "payments"),
        *("invoices", "credit_notes", "staff_looks", "webhooks", "archived_requests"),
        *("spend_alerts_microusd", "spend_alerts_usd", "usage_records", "usage_corrections"),
        "held_usage",
    }
    assert export["billing_details"]["name"] == "Lamp & Sons"
    assert export["spend_alerts_microusd"] == [7]
    assert export["spend_alerts_usd"] == ["0.000007"]
    amounts = [charge["amount_microusd"] for charge in export["charges"]]
    assert sorted(amounts) == list(range(1, 42))
    assert len(export["usage_records"]) == 1
    [payment] = export["payments"]
    told = (payment["amount_microusd"], payment["reference"], payment["note"])
    assert told == (9_000_000, transfer["reference"], "by post")
    assert payment["amount_usd"] == "9.000000"
    assert export["subscription"]["owed_usd"] == "0.000000"
    others = (await export_of(billing, identities, grace)).json()
    assert (others["charges"], others["payments"], others["billing_details"]) == ([], [], None)


async def test_what_was_corrected_of_their_calls_is_theirs(
    billing: Billing, identities: Path
) -> None:
    ada, grace, team = uuid4(), uuid4(), uuid4()
    theirs, others = a_usage(user=ada), a_usage(user=grace)
    await billing.record(theirs, others)
    for event_id, words in ((theirs.id, "by mistake"), (others.id, "another's")):
        wanted = {"event_id": str(event_id), "deltas": {"cost_microusd": 5}, "reason": words}
        for number in range(21 if event_id == theirs.id else 1):  # more than a page of them
            made = await billing.send(
                *("POST", "admin/adjustments", team),
                role="billing",
                json=wanted,
                headers={"idempotency-key": str(number)},
            )
            assert made.status_code == 201, made.text
    export = (await export_of(billing, identities, ada)).json()
    assert len(export["usage_corrections"]) == 21
    assert len({each["id"] for each in export["usage_corrections"]}) == 21
    first = export["usage_corrections"][0]
    assert (first["event_id"], first["kind"], first["reason"]) == (
        *(str(theirs.id), "adjusted", "by mistake"),
    )
    assert (first["deltas"]["cost_microusd"], first["deltas"]["cost_usd"]) == (5, "0.000005")
    # Who of the team it was, is none of their data.
    assert str(team) not in str(export)
    assert export["archived_requests"] == 0


async def test_what_was_held_of_theirs_is_theirs_with_what_was_said_beside_it(
    billing: Billing, identities: Path
) -> None:
    ada, grace = uuid4(), uuid4()
    service = Service(billing)
    said = {"url": "https://example.com/lamps"}
    events = [an_event(ada, quantity="0.5", metadata=said) for _ in range(21)]  # more than a page
    await service.tell(*events, an_event(grace, quantity="0.5", metadata={"url": "other"}))
    # What was told well since is shown as well: it is kept.
    await service.tell({**events[0], "data": {"meter": "screenshot", "quantity": 1}})

    export = (await export_of(billing, identities, ada)).json()

    held = {one["id"]: one for one in export["held_usage"]}
    assert len(export["held_usage"]) == len(held) == 21
    shown = held[events[1]["id"]]
    assert (shown["source"], shown["code"]) == ("/screenshots", "quantity_not_whole")
    assert shown["event"]["data"]["metadata"] == said
    # Who told it is none of their data, and what others used neither.
    assert str(service.id) not in str(export)
    assert str(grace) not in str(export)


async def test_nobody_but_auth_collects_it(billing: Billing, identities: Path) -> None:
    ada = uuid4()
    refused = await export_of(billing, identities, ada, by="chat")
    assert refused.status_code == 403
    path = f"/internal/users/{ada}/export"
    assert (await billing.internal.get(path, headers=billing.mint.headers(ada))).status_code == 401
    assert (await billing.public.get(path, headers=billing.mint.headers(ada))).status_code == 404
