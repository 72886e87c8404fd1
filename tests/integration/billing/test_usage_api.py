"""What a user sees of their own usage: totals and records."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from uuid import UUID, uuid4

from tests.integration.billing.harness import NOBODYS, Billing
from tests.support.billing import NOON, a_speech, a_usage
from tests.support.problems import problem

NOVEMBER = {"from": "2026-11-01", "to": "2026-11-30"}


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
