"""Plans and subscriptions, as users and the billing team get them over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.billing.harness import Billing
from tests.support.problems import problem


async def test_plans_are_those_of_the_tier_table(billing: Billing, ada: UUID) -> None:
    plans = (await billing.get("plans", ada)).json()["data"]
    assert [plan["tier"] for plan in plans] == ["free", "pro", "enterprise"]
    assert plans[1]["price_usd_per_seat_month"] == "9.000000"
    assert plans[0]["allowances"]["openai"]["requests_per_day"] == 50
    assert plans[2]["many_seats"] is True


async def test_who_never_chose_has_the_free_tier(billing: Billing, ada: UUID) -> None:
    assert (await billing.get("subscription", ada)).json() == {
        "organisation_id": None,
        "tier": "free",
        "seats": 1,
        "revision": 0,
        "changed_at": None,
        "price_microusd_per_month": 0,
        "price_usd_per_month": "0.000000",
        "state": "none",
        "period_begins": None,
        "period_ends": None,
        "cancels_at_period_end": False,
        "from_next_period": None,
        "owed_microusd": 0,
        "owed_usd": "0.000000",
    }


async def test_in_a_sandbox_a_change_takes_effect_at_once_and_is_told(
    sandbox: Billing, ada: UUID
) -> None:
    changed = await sandbox.send("PUT", "subscription", ada, json={"tier": "pro"})
    assert (changed.status_code, changed.json()["tier"]) == (200, "pro")
    assert changed.headers["x-sandbox"] == "true"
    shown = (await sandbox.get("subscription", ada)).json()
    assert shown.items() <= changed.json().items()
    rows = await sandbox.database.fetch(
        "select stream, envelope from outbox where envelope ->> 'subject' = $1", str(ada)
    )
    (row,) = rows
    assert row["stream"] == "subscription.changed.pro"
    assert row["envelope"]["data"] == {
        "user_id": str(ada),
        "tier_name": "pro",
        "seats": 1,
        "revision": 1,
        "organisation_id": None,
        "next_seats": None,
    }


async def test_elsewhere_an_upgrade_has_to_be_paid_for(billing: Billing, ada: UUID) -> None:
    refused = await billing.send("PUT", "subscription", ada, json={"tier": "pro"})
    body = problem(refused, 402, "subscription_not_paid")
    assert (body["tier"], body["price_microusd_per_month"]) == ("pro", 9_000_000)
    assert body["price_usd_per_month"] == "9.000000"
    same = await billing.send("PUT", "subscription", ada, json={"tier": "free"})
    assert (same.status_code, same.json()["revision"]) == (200, 0)


@pytest.mark.parametrize("role", ["billing", "operator"])
async def test_the_billing_team_grants_a_tier_that_its_user_may_give_up(
    billing: Billing, ada: UUID, role: str
) -> None:
    granted = await billing.send(
        "PUT",
        f"admin/subscriptions/{ada}",
        uuid4(),
        role=role,
        json={"tier": "enterprise", "seats": 25},
    )
    assert granted.json()["price_usd_per_month"] == "375.000000"
    assert (await billing.get("subscription", ada)).json()["seats"] == 25
    back = await billing.send("PUT", "subscription", ada, json={"tier": "free"})
    assert (back.status_code, back.json()["seats"], back.json()["revision"]) == (200, 1, 2)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"tier": "gold"}, "unknown_tier"),
        ({"tier": "PRO"}, "unknown_tier"),
        ({"tier": "pro\x00"}, "unknown_tier"),
        ({"tier": "pro", "seats": 2}, "one_seat_only"),
        ({"tier": "enterprise", "seats": 0}, "invalid_request"),
        ({"tier": "enterprise", "seats": 10**30}, "invalid_request"),
        ({"tier": "enterprise", "seats": "3"}, "invalid_request"),
        ({"tier": "enterprise", "seats": True}, "invalid_request"),
        ({"tier": "enterprise", "seats": 1.5}, "invalid_request"),
        ({"tier": ""}, "invalid_request"),
        ({"tier": None}, "invalid_request"),
        ({"tier": "x" * 41}, "invalid_request"),
        ({"tier": "pro", "price": 0}, "invalid_request"),
        ({}, "invalid_request"),
        ([], "invalid_request"),
        (None, "invalid_request"),
    ],
)
async def test_a_subscription_that_makes_no_sense_is_refused(
    sandbox: Billing, ada: UUID, body: Any, code: str
) -> None:
    problem(await sandbox.send("PUT", "subscription", ada, json=body), 422, code)
    path = f"admin/subscriptions/{ada}"
    problem(await sandbox.send("PUT", path, ada, role="billing", json=body), 422, code)


async def test_a_body_that_is_no_json_is_told_so(sandbox: Billing, ada: UUID) -> None:
    for content in (b"", b"{", b"\xff\xfe", b'{"tier": "\xed\xa0\x80"}', b"[" * 100_000):
        response = await sandbox.send(
            "PUT",
            "subscription",
            ada,
            content=content,
        )
        assert 400 <= response.status_code < 500, (content[:20], response.text)
    surrogate = await sandbox.send("PUT", "subscription", ada, content=b'{"tier": "\\ud800"}')
    assert surrogate.status_code == 422
