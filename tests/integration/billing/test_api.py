"""Billing's doors: what users, the billing team and strangers get."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.billing.settings import Settings
from shared.clock import SystemClock
from shared.limits.admission import (
    Admissions,
    day_window,
    minute_window,
    month_window,
    spend_window,
    streams_at_once,
)
from shared.valkey import open_cache
from tests.integration.billing.harness import Billing, running_billing
from tests.support.billing import NOON, a_speech, a_usage
from tests.support.tokens import TokenMint

NOBODYS = UUID("01900000-0000-7000-8000-000000000007")

NOVEMBER = {"from": "2026-11-01", "to": "2026-11-30"}


@pytest.fixture
def ada() -> UUID:
    return uuid4()


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The moment at which billing's clock stands: no window turns while a test counts in it."""
    # Ahead of the machine's clock, by which counters are dropped some time after their window.
    moment = datetime.now(UTC) + timedelta(minutes=2)
    monkeypatch.setattr(SystemClock, "now", lambda _clock: moment)
    return moment


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["code"] == code
    return body


PATHS = [
    ("GET", "limits"),
    ("GET", "usage"),
    ("GET", "usage/records"),
    ("GET", f"usage/records/{NOBODYS}"),
    ("GET", "plans"),
    ("GET", "subscription"),
    ("PUT", "subscription"),
    ("POST", "subscription/cancel"),
    ("POST", "subscription/resume"),
    ("POST", "subscription/portal"),
    ("GET", "charges"),
    ("POST", "admin/plan-prices"),
    ("GET", "admin/subscriptions/past-due"),
    ("GET", "admin/payments/unused"),
    ("GET", f"admin/payments/orders?holder={NOBODYS}"),
    ("POST", "admin/payments"),
    ("POST", f"admin/payments/{NOBODYS}/paid"),
    ("POST", "admin/prices"),
    ("PUT", f"admin/subscriptions/{NOBODYS}"),
    ("GET", "admin/reconciliation"),
    ("POST", "admin/prices/preview"),
    ("POST", "admin/periods/2026-10/close"),
    ("GET", "admin/periods"),
    ("GET", "admin/periods/2026-10"),
    ("POST", "usage/events"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nobody_enters_without_a_token(billing: Billing, method: str, path: str) -> None:
    response = await billing.public.request(method, f"/billing/{path}")
    problem(response, 401, "unauthenticated")


@pytest.mark.parametrize(("method", "path"), [p for p in PATHS if "admin" in p[1]])
@pytest.mark.parametrize("role", ["member", "admin", "owner", ""])
async def test_only_the_billing_team_does_its_work(
    billing: Billing, ada: UUID, method: str, path: str, role: str
) -> None:
    body = {"provider": "p", "model": "m", "input_microusd_per_million": 1}
    if "periods" in path:
        body = {}
    if "subscriptions" in path:
        body = {"tier": "pro"}
    if "plan-prices" in path:
        body = {"tier": "pro", "microusd_per_seat_month": 1}
    response = await billing.send(method, path, ada, role=role, json=body)
    problem(response, 403, "not_billing_staff")


# Usage


async def test_totals_are_grouped_and_summed(billing: Billing, ada: UUID) -> None:
    await billing.record(
        a_usage(user=ada, at=NOON),
        a_usage(user=ada, at=NOON + timedelta(days=1)),
        a_speech(user=ada, at=NOON),
        a_usage(user=uuid4(), at=NOON),
    )
    response = await billing.get("usage", ada, params=NOVEMBER)
    body = response.json()
    assert body["data"][0] == {
        "day": "2026-11-24",
        "provider": "elevenlabs",
        "model": "eleven_flash_v2_5",
        "operation": "voice",
        "requests": 1,
        "input_tokens": 0,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 0,
        "output_reasoning_tokens": 0,
        "total_tokens": 0,
        "characters": 1000,
        "cost_microusd": None,
        "cost_usd": None,
        "unpriced_requests": 1,
    }
    assert [row["day"] for row in body["data"]] == ["2026-11-24", "2026-11-24", "2026-11-25"]
    totals = body["totals"]
    assert (totals["requests"], totals["unpriced_requests"]) == (3, 1)
    assert (totals["cost_microusd"], totals["cost_usd"]) == (410, "0.000410")
    assert totals["total_tokens"] == 3100


async def test_only_what_was_grouped_by_is_named(billing: Billing, ada: UUID) -> None:
    await billing.record(a_usage(user=ada, at=NOON), a_usage(user=ada, at=NOON))
    response = await billing.get("usage", ada, params={**NOVEMBER, "group_by": "model"})
    (row,) = response.json()["data"]
    assert (row["model"], row["requests"]) == ("gpt-6-luna", 2)
    assert not {"day", "provider", "operation"} & set(row)
    alone = await billing.get("usage", ada, params={**NOVEMBER, "group_by": ""})
    assert alone.json()["data"] == [alone.json()["totals"]]


async def test_no_usage_costs_nothing_and_not_an_unknown_amount(
    billing: Billing, ada: UUID
) -> None:
    body = (await billing.get("usage", ada)).json()
    assert body["data"] == []
    assert (body["totals"]["requests"], body["totals"]["cost_microusd"]) == (0, 0)


async def test_what_was_just_used_is_in_this_months_totals(billing: Billing, ada: UUID) -> None:
    await billing.record(a_usage(user=ada))
    assert (await billing.get("usage", ada)).json()["totals"]["requests"] == 1


async def test_a_date_as_the_end_means_that_day_too(billing: Billing, ada: UUID) -> None:
    await billing.record(a_usage(user=ada, at=NOON))
    day = {"from": "2026-11-24", "to": "2026-11-24"}
    assert (await billing.get("usage", ada, params=day)).json()["totals"]["requests"] == 1
    until = {"from": "2026-11-24", "to": "2026-11-24T12:00:00Z"}
    assert (await billing.get("usage", ada, params=until)).json()["totals"]["requests"] == 0


# Records


async def test_records_come_in_pages_the_newest_first(billing: Billing, ada: UUID) -> None:
    usage = [a_usage(user=ada, at=NOON + timedelta(seconds=n // 3)) for n in range(11)]
    await billing.record(*usage)
    found: list[str] = []
    cursor = None
    while True:
        params = {"limit": "4", **({"cursor": cursor} if cursor else {})}
        page = (await billing.get("usage/records", ada, params=params)).json()
        assert page["archived_requests"] == 0
        found += [record["event_id"] for record in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    expected = sorted(usage, key=lambda fact: (fact.time, fact.id), reverse=True)
    assert found == [str(fact.id) for fact in expected]


async def test_a_record_says_what_was_used_and_what_it_cost(billing: Billing, ada: UUID) -> None:
    fact = a_usage(user=ada, at=NOON, tier="pro", provider_request_id="chatcmpl-1")
    await billing.record(fact)
    (record,) = (await billing.get("usage/records", ada)).json()["data"]
    assert record["event_id"] == str(fact.id)
    assert record["occurred_at"] == "2026-11-24T12:00:00Z"
    assert (record["input_tokens"], record["cache_read_tokens"]) == (1200, 1000)
    assert (record["cost_microusd"], record["cost_usd"]) == (205, "0.000205")
    assert record["price_version"].startswith("genai-prices/")
    assert (record["tier"], record["provider_request_id"]) == ("pro", "chatcmpl-1")
    assert "user_id" not in record


async def test_what_was_said_again_says_so_and_costs_nothing_though_its_model_has_no_price(
    billing: Billing, ada: UUID
) -> None:
    await billing.record(
        a_speech(user=ada, at=NOON),
        a_speech(user=ada, at=NOON + timedelta(seconds=1), characters=0, cached=True),
        a_speech(user=ada, at=NOON + timedelta(seconds=2), provider="espeak-ng", model="espeak-ng"),
    )
    engine, again, first = (await billing.get("usage/records", ada)).json()["data"]
    assert (first["cached"], first["cost_microusd"]) == (False, None)
    assert (again["cached"], again["characters"], again["cost_microusd"]) == (True, 0, 0)
    assert (engine["cost_microusd"], engine["price_version"]) == (0, "own-engine/1")


async def test_records_of_a_period(billing: Billing, ada: UUID) -> None:
    usage = [a_usage(user=ada, at=NOON + timedelta(days=n)) for n in range(4)]
    await billing.record(*usage)
    params = {"from": "2026-11-25", "to": "2026-11-26"}
    page = (await billing.get("usage/records", ada, params=params)).json()
    assert [r["event_id"] for r in page["data"]] == [str(usage[2].id), str(usage[1].id)]


async def test_records_can_be_had_as_a_file(billing: Billing, ada: UUID) -> None:
    usage = [a_usage(user=ada) for _ in range(60)] + [a_speech(user=ada)]
    await billing.record(*usage)
    table = await billing.get("usage/records", ada, headers={"accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert "attachment" in table.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(table.text)))
    lines = await billing.get("usage/records", ada, headers={"accept": "application/x-ndjson"})
    objects = [json.loads(line) for line in lines.text.splitlines()]
    ids = {str(fact.id) for fact in usage}
    assert {row["event_id"] for row in rows} == {record["event_id"] for record in objects} == ids
    assert len(rows) == len(objects) == 61
    assert rows[0]["cost_microusd"] == ""
    assert objects[0]["cost_microusd"] is None
    few = await billing.get(
        "usage/records", ada, headers={"accept": "text/csv"}, params={"limit": "5"}
    )
    assert len(few.text.splitlines()) == 6


async def test_the_life_of_an_event(billing: Billing, ada: UUID) -> None:
    known, unknown = a_usage(user=ada, at=NOON), a_speech(user=ada, at=NOON)
    await billing.record(known, unknown)
    life = (await billing.get(f"usage/records/{known.id}", ada)).json()
    assert [step["step"] for step in life["life"]] == ["occurred", "received", "rated"]
    assert life["life"][2]["price_version"] == life["price_version"]
    assert (life["producer"], life["cost_microusd"]) == ("chat", 205)
    waiting = (await billing.get(f"usage/records/{unknown.id}", ada)).json()
    assert [step["step"] for step in waiting["life"]] == ["occurred", "received"]
    assert (waiting["pricing_status"], waiting["cost_usd"]) == ("unknown_price", None)


async def test_another_users_usage_looks_absent(billing: Billing, ada: UUID) -> None:
    fact = a_usage(user=ada, at=NOON)
    await billing.record(fact)
    grace = uuid4()
    problem(await billing.get(f"usage/records/{fact.id}", grace), 404, "usage_record_not_found")
    problem(await billing.get(f"usage/records/{NOBODYS}", ada), 404, "usage_record_not_found")
    assert (await billing.get("usage/records", grace)).json()["data"] == []
    assert (await billing.get("usage", grace, params=NOVEMBER)).json()["data"] == []
    export = await billing.get("usage/records", grace, headers={"accept": "text/csv"})
    assert len(export.text.splitlines()) == 1
    # A cursor out of somebody else's list shows nothing of it either.
    await billing.record(*(a_usage(user=ada, at=NOON) for _ in range(3)))
    cursor = (await billing.get("usage/records", ada, params={"limit": "1"})).json()["next_cursor"]
    page = (await billing.get("usage/records", grace, params={"cursor": cursor})).json()
    assert page == {"data": [], "next_cursor": None, "archived_requests": 0}


# Subscription and plans


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


# Prices and reconciliation


def a_wanted_price(**given: Any) -> dict[str, Any]:
    return {"provider": "acme", "model": f"m-{uuid4()}", "output_microusd_per_million": 5, **given}


async def test_a_price_is_set_once(billing: Billing, ada: UUID) -> None:
    wanted = a_wanted_price(effective_from="2026-11-01T02:00:00+02:00")
    made = await billing.send("POST", "admin/prices", ada, role="billing", json=wanted)
    assert made.status_code == 201
    price = made.json()
    assert price["version"].startswith("override/")
    assert price["effective_from"] == "2026-11-01T00:00:00Z"
    assert (price["set_by"], price["input_microusd_per_million"]) == (str(ada), None)
    again = await billing.send("POST", "admin/prices", ada, role="billing", json=wanted)
    problem(again, 409, "price_exists")
    await billing.record(a_usage(user=ada, at=NOON, provider="acme", model=wanted["model"]))
    # It has no price for input, so the cost stays unknown instead of being too low.
    (record,) = (await billing.get("usage/records", ada)).json()["data"]
    assert record["cost_microusd"] is None


@pytest.mark.parametrize(
    "given",
    [
        {"output_microusd_per_million": None},
        {"output_microusd_per_million": -1},
        {"output_microusd_per_million": 10**10 + 1},
        {"output_microusd_per_million": 0.5},
        {"output_microusd_per_million": "5"},
        {"provider": ""},
        {"provider": "a\x00b"},
        {"model": "m" * 301},
        {"model": 5},
        {"effective_from": "2026-11-01T00:00:00"},
        {"effective_from": "9999-12-31T23:59:59-14:00"},
        {"effective_from": "1999-12-31T23:59:59Z"},
        {"effective_from": "soon"},
        {"effective_from": 10**30},
        {"currency": "EUR"},
    ],
)
async def test_a_price_that_makes_no_sense_is_refused(
    billing: Billing, ada: UUID, given: dict[str, Any]
) -> None:
    wanted = a_wanted_price(**given)
    response = await billing.send("POST", "admin/prices", ada, role="operator", json=wanted)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_the_billing_team_sees_what_is_missing(billing: Billing, ada: UUID) -> None:
    epoch, model = uuid4(), f"m-{uuid4()}"
    await billing.record(
        *(
            a_usage(user=ada, sequence=number, epoch=epoch, tier="pro", model=model)
            for number in (1, 2, 5)
        )
    )
    response = await billing.send("GET", "admin/reconciliation", ada, role="billing")
    body = response.json()
    (stream,) = [row for row in body["streams"] if row["epoch"] == str(epoch)]
    assert (stream["producer"], stream["stream"]) == ("chat", "usage.recorded.pro")
    assert (stream["complete_up_to"], stream["highest_received"], stream["missing"]) == (2, 5, 2)
    assert stream["gaps"] == [{"first": 3, "last": 4}]
    assert stream["last_seen_at"] is not None
    assert {"provider": "openai", "model": model, "requests": 3} in body["unpriced"]
    assert body["unpriced_requests"] >= 3
    assert {"default_partition_rows", "dead_events"} <= set(body)


# Limits


async def test_limits_are_those_that_chat_and_voice_count(
    billing: Billing, ada: UUID, engines: dict[str, str], stopped_at: datetime
) -> None:
    now = stopped_at
    cache = open_cache(engines["cache_url"])
    windows = [
        minute_window("openai.requests_per_minute", 5, now),
        day_window("openai.requests_per_day", 50, now),
        month_window("elevenlabs.characters_per_month", 10_000, now, 1234),
        minute_window("openai.tokens_per_minute", 100_000, now, 700),
    ]
    streams = streams_at_once(5, now)
    admissions = Admissions(cache)
    ended = str(uuid4())
    for reservation in (ended, str(uuid4())):
        await admissions.admit(
            str(ada), windows, reservation=reservation, claimed_tier="free", streams=streams
        )
    # One has ended, the other still runs: what it holds may yet come back.
    await admissions.settle(str(ada), ended, [(windows[3], 650)])
    limits = (await billing.get("limits", ada)).json()["data"]
    await cache.aclose()
    by_name = {limit["name"]: limit for limit in limits}
    assert by_name["openai.requests_per_day"] == {
        "name": "openai.requests_per_day",
        "provider": "openai",
        "limit": 50,
        "used": 1,
        "reserved": 1,
        "remaining": 48,
        "resets_at": windows[1].ends_at.isoformat().replace("+00:00", "Z"),
    }
    assert by_name["elevenlabs.characters_per_month"]["remaining"] == 10_000 - 2 * 1234
    assert by_name["elevenlabs.requests_per_minute"]["used"] == 0
    tokens = by_name["openai.tokens_per_minute"]
    assert (tokens["used"], tokens["reserved"], tokens["remaining"]) == (650, 700, 98_650)
    running = by_name["concurrent_streams"]
    assert (running["provider"], running["used"], running["limit"]) == (None, 1, 5)
    assert set(by_name) == {
        "openai.requests_per_minute",
        "openai.requests_per_day",
        "elevenlabs.requests_per_minute",
        "elevenlabs.characters_per_month",
        "openai.tokens_per_minute",
        "concurrent_streams",
        "monthly_spend",
    }


async def test_the_months_money_comes_from_the_counter_or_else_from_the_ledger(
    billing: Billing, ada: UUID, engines: dict[str, str], stopped_at: datetime
) -> None:
    async def spending() -> dict[str, Any]:
        limits = (await billing.get("limits", ada)).json()["data"]
        return next(limit for limit in limits if limit["name"] == "monthly_spend")

    await billing.record(a_usage(user=ada, at=stopped_at), a_speech(user=ada, at=stopped_at))
    told = await spending()
    assert (told["used"], told["limit"], told["remaining"]) == (205, None, None)

    async def spent() -> int:
        return 300

    cache = open_cache(engines["cache_url"])
    window = spend_window("monthly_spend", 10_000, stopped_at, 45)
    await Admissions(cache).admit(
        str(ada), [window], reservation=str(uuid4()), claimed_tier="free", spent=spent
    )
    await cache.aclose()
    told = await spending()
    assert told["used"] + told["reserved"] == 345


async def test_limits_follow_the_tier_and_not_the_token(sandbox: Billing, ada: UUID) -> None:
    await sandbox.send("PUT", "subscription", ada, json={"tier": "pro"})
    limits = (await sandbox.get("limits", ada)).json()["data"]
    assert {limit["provider"] for limit in limits} == {
        None,
        "openai",
        "gemini",
        "anthropic",
        "elevenlabs",
    }


# Trouble


async def test_without_valkey_only_the_limits_are_away(
    engines: dict[str, str], settings: Callable[..., Settings], mint: TokenMint, ada: UUID
) -> None:
    away = {**engines, "cache_url": "redis://127.0.0.1:1/0"}
    async with running_billing(settings(**away), mint) as billing:
        body = problem(await billing.get("limits", ada), 503, "dependency_unavailable")
        assert body["dependency"] == "cache"
        assert (await billing.get("usage", ada)).status_code == 200
        assert (await billing.internal.get("/readyz")).status_code == 200


async def test_without_its_database_billing_starts_and_says_so(
    engines: dict[str, str], settings: Callable[..., Settings], mint: TokenMint, ada: UUID
) -> None:
    away = {**engines, "database_url": "postgresql://a:b@127.0.0.1:1"}
    async with running_billing(settings(**away), mint) as billing:
        ready = await billing.internal.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"] == {"database": "dependency_unavailable"}
        for path in ("usage", "usage/records", "subscription", "limits"):
            problem(await billing.get(path, ada), 503, "dependency_unavailable")
        export = await billing.get("usage/records", ada, headers={"accept": "text/csv"})
        problem(export, 503, "dependency_unavailable")


async def test_gauges_tell_what_to_alarm_on(billing: Billing, ada: UUID) -> None:
    await billing.record(a_usage(user=ada, sequence=1, epoch=uuid4()))
    text = (await billing.internal.get("/metrics")).text
    assert "companion_billing_default_partition_rows" in text
    assert "companion_billing_unpriced_requests" in text
    assert 'companion_database_connections{service="billing",state="most"}' in text
    assert 'companion_database_connections{service="billing",state="lent"} 0.0' in text
    assert 'companion_ledger_lag_seconds{tier="free"}' in text


async def test_every_route_is_documented(billing: Billing) -> None:
    document = (await billing.public.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            # Stripe has no token: its signature is bad or good.
            refusal = "400" if path == "/billing/stripe/webhook" else "401"
            assert refusal in operation["responses"], (method, path)


# Whatever strangers send


BAD_QUERIES = [
    {"from": "yesterday"},
    {"from": ""},
    {"from": "2026-11-24T10:00:00"},
    {"to": "9999-12-31T23:59:59Z"},
    {"to": "0001-01-01"},
    {"from": "2026-11-25", "to": "2026-11-01"},
    {"from": "\x00"},
    {"from": "2" * 41},
]


@pytest.mark.parametrize("query", BAD_QUERIES)
@pytest.mark.parametrize("path", ["usage", "usage/records"])
async def test_a_period_that_makes_no_sense_is_refused(
    billing: Billing, ada: UUID, path: str, query: dict[str, str]
) -> None:
    response = await billing.get(path, ada, params=query)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("usage", {"group_by": "hour"}),
        ("usage", {"group_by": "day,day"}),
        ("usage", {"group_by": "day;drop table ledger_entry"}),
        ("usage", {"group_by": "," * 201}),
        ("usage", {"from": "2020-01-01", "to": "2026-01-01"}),
        ("usage", {"sandbox": "perhaps"}),
        ("usage/records", {"limit": "0"}),
        ("usage/records", {"limit": "-1"}),
        ("usage/records", {"limit": "201"}),
        ("usage/records", {"limit": str(10**40)}),
        ("usage/records", {"limit": "many"}),
        ("usage/records", {"cursor": "x"}),
        ("usage/records", {"cursor": "AAAA"}),
        ("usage/records", {"cursor": "é\x00"}),
        ("usage/records", {"cursor": "A" * 501}),
        ("usage/records", {"cursor": "MjAyNi0xMS0yNB8x"}),
        ("usage/records/1", {}),
        ("usage/records/%00", {}),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    billing: Billing, ada: UUID, path: str, query: dict[str, str]
) -> None:
    response = await billing.get(path, ada, params=query)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


TEXT = st.text(max_size=60) | st.sampled_from(["2026-11-24", "day", "1", "0001-01-01T00:00Z"])


@given(
    path=st.sampled_from(["usage", "usage/records", "limits", "plans"]),
    query=st.dictionaries(
        st.sampled_from(["from", "to", "group_by", "limit", "cursor", "sandbox", "?"]), TEXT
    ),
    accept=st.sampled_from(["*/*", "text/csv", "application/x-ndjson", ";;,q=1", "a/b;q=-1"]),
)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_query_breaks_anything(
    billing: Billing, path: str, query: dict[str, str], accept: str
) -> None:
    query = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
    response = await billing.get(path, uuid4(), params=query, headers={"accept": accept})
    assert response.status_code in {200, 422}, response.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(["tier", "seats", "provider", "model", "effective_from", "x"])


@given(
    call=st.sampled_from([("PUT", "subscription"), ("POST", "admin/prices")]),
    body=st.dictionaries(FIELDS, JSON_VALUES) | JSON_VALUES,
)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_body_breaks_anything(billing: Billing, call: tuple[str, str], body: Any) -> None:
    method, path = call
    response = await billing.send(
        method, path, uuid4(), role="billing", content=json.dumps(body).encode()
    )
    assert response.status_code < 500, response.text
