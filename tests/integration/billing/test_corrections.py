"""Corrections: rows of their own, applied once, and every sum follows."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.billing.actions import Actions
from services.billing.domain.correction import Deltas
from services.billing.domain.errors import (
    AdjustmentNotAcceptable,
    CorrectionNotAllowed,
    DriftNotFound,
    UsageNotPriced,
    UsageRecordNotFound,
    UsageVoidedAlready,
)
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.usage_report import Sums
from services.billing.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.events import Fact
from shared.events.usage import UsageAdjusted, UsageVoided
from shared.ids import EventId, UserId
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import Billing, a_message
from tests.support.billing import NOON, StoppedClock, a_speech, a_usage

ADA, STAFF = UserId(uuid4()), UserId(uuid4())
LESS = Deltas(input_tokens=-200, output_tokens=-50, cost_microusd=-31)


async def totals(actions: Actions) -> Sums:
    """Once all that was recorded is counted, which corrections are mostly made before here."""
    await actions.link_ledger()
    report = await actions.report_usage(
        ADA, begins=NOON, ends=NOON + timedelta(hours=1), dimensions=(), sandbox=None
    )
    return report.totals


async def no_drift(actions: Actions, clock: StoppedClock) -> bool:
    """Whether all sums fit, those by the day too."""
    await actions.link_ledger()
    clock.forward(timedelta(days=2))
    check = await actions.check_rollups()
    return check.compared > 0 and check.drifts == 0


async def test_an_adjustment_adds_to_the_sums_and_leaves_the_entry(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    usage = a_usage(user=ADA, at=NOON)
    await actions.record_usage([usage])
    await actions.correct_usage(usage.id, LESS, reason="Counted again.", by=STAFF)
    sums = await totals(actions)
    assert (sums.requests, sums.input_tokens, sums.output_tokens, sums.cost) == (1, 1000, 300, 174)
    entry = await actions.explain_usage(usage.id, by=ADA)
    assert entry.counts.input_tokens == 1200
    told = await database.fetch("select envelope from outbox where stream like 'usage.adjusted%'")
    assert [row["envelope"]["data"]["cost_microusd"] for row in told] == [-31]
    assert await no_drift(actions, clock)
    day = await database.fetchrow("select requests, input_tokens, cost_microusd from usage_day")
    assert day is not None
    assert tuple(map(int, day)) == (1, 1000, 174)


async def test_what_is_voided_counts_for_nothing_and_is_corrected_no_more(
    actions: Actions, clock: StoppedClock
) -> None:
    usage = a_usage(user=ADA, at=NOON)
    await actions.record_usage([usage])
    await actions.correct_usage(usage.id, LESS, reason="Counted again.", by=STAFF)
    await actions.correct_usage(usage.id, None, reason="Not paid at all.", by=STAFF)
    assert await totals(actions) == Sums()
    with pytest.raises(UsageVoidedAlready):
        await actions.correct_usage(usage.id, None, reason="Again.", by=STAFF)
    assert await actions.record_usage([usage]) == 0
    assert await totals(actions) == Sums()
    assert await no_drift(actions, clock)


async def test_what_is_voided_before_it_has_a_price_never_gets_one(
    actions: Actions, clock: StoppedClock
) -> None:
    speech = a_speech(user=ADA, at=NOON)
    await actions.record_usage([speech])
    with pytest.raises(UsageNotPriced):
        await actions.correct_usage(speech.id, LESS, reason="Less.", by=STAFF)
    await actions.correct_usage(speech.id, None, reason="Not paid.", by=STAFF)
    await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=1_000_000),
        effective_from=NOON - timedelta(days=1),
        by=STAFF,
    )
    assert await actions.rate_unpriced_usage() == 0
    assert await totals(actions) == Sums()
    assert await no_drift(actions, clock)


@pytest.mark.parametrize(
    "deltas", [Deltas(), Deltas(input_tokens=-1201), Deltas(cost_microusd=-206)]
)
async def test_an_adjustment_leaves_nothing_below_zero(deltas: Deltas, actions: Actions) -> None:
    usage = a_usage(user=ADA, at=NOON)
    await actions.record_usage([usage])
    with pytest.raises(AdjustmentNotAcceptable):
        await actions.correct_usage(usage.id, deltas, reason="Wrong.", by=STAFF)
    with pytest.raises(UsageRecordNotFound):
        await actions.correct_usage(EventId(uuid4()), LESS, reason="Nothing there.", by=STAFF)


async def test_corrections_at_once_take_turns(actions: Actions, clock: StoppedClock) -> None:
    usage = a_usage(user=ADA, at=NOON)
    await actions.record_usage([usage])
    half = Deltas(input_tokens=-500)
    done = await asyncio.gather(
        *(actions.correct_usage(usage.id, half, reason="Half.", by=STAFF) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, AdjustmentNotAcceptable) for one in done) == 3
    assert (await totals(actions)).input_tokens == 200
    assert await no_drift(actions, clock)


def told(event: UsageVoided | UsageAdjusted, source: str) -> Fact[Any]:
    return Fact(event=event, subject=event.user_id, tier="free", source=source)


async def test_a_producers_correction_is_applied_once(
    actions: Actions, consumer: Consumer, database: Database, clock: StoppedClock
) -> None:
    usages = [a_usage(user=ADA, at=NOON) for _ in range(2)]
    await actions.record_usage(usages)
    facts = [
        told(
            UsageAdjusted(user_id=ADA, event_id=usages[0].id, reason="Less.", input_tokens=-200),
            "chat",
        ),
        told(UsageVoided(user_id=ADA, event_id=usages[1].id, reason="None."), "chat"),
    ]
    for fact in [*facts, *facts]:
        await consumer.receive(fact.event.type, a_message([fact]))
    sums = await totals(actions)
    assert (sums.requests, sums.input_tokens) == (1, 1000)
    assert await database.fetch("select * from dead_event") == []
    with pytest.raises(CorrectionNotAllowed):
        void = UsageVoided(user_id=ADA, event_id=usages[0].id, reason="Mine?")
        await actions.apply_corrections([told(void, "voice")])
    assert await no_drift(actions, clock)


async def test_what_billing_tells_comes_back_and_changes_nothing(
    actions: Actions, database: Database
) -> None:
    usage = a_usage(user=ADA, at=NOON)
    await actions.record_usage([usage])
    await actions.correct_usage(usage.id, None, reason="Not paid.", by=STAFF)
    row = await database.fetchrow("select envelope from outbox where stream like 'usage.voided%'")
    assert row is not None
    assert await actions.apply_corrections([Fact.from_wire(row["envelope"])]) == 0  # type: ignore[list-item]


async def test_corrections_are_append_only(actions: Actions, database: Database) -> None:
    usage = a_usage(user=ADA, at=NOON)
    await actions.record_usage([usage])
    await actions.correct_usage(usage.id, LESS, reason="Less.", by=STAFF)
    for statement in (
        "update ledger_correction set cost_microusd = 0",
        "truncate ledger_correction",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(statement)


async def test_a_drift_is_found_and_stays_until_somebody_repairs_it(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    await actions.record_usage([a_usage(user=ADA, at=NOON) for _ in range(3)])
    await actions.link_ledger()
    await database.execute("update usage_hour set requests = 2, input_tokens = input_tokens - 1200")
    await database.execute("update usage_day set cost_microusd = 7")
    clock.forward(timedelta(days=2))
    for _ in range(2):  # the second check finds the same again and notes it once
        check = await actions.check_rollups()
        assert check.drifts == 2
    async with SqlWork(database) as work:
        drifts = await work.rollups.open_drifts(most=10)
    hour = next(one for one in drifts if one.rollup == "hour")
    assert (hour.missing["requests"], hour.missing["input_tokens"]) == (1, 1200)
    state = await actions.reconcile()
    assert [drift.id for drift in state.drifts] == [drift.id for drift in drifts]
    # Usage that comes meanwhile is not lost in the repair.
    await actions.record_usage([a_usage(user=ADA, at=NOON)])
    await actions.link_ledger()
    await actions.repair_drift(hour.id, reason="A hand in the table.", by=STAFF)
    with pytest.raises(DriftNotFound):
        await actions.repair_drift(hour.id, reason="Twice.", by=STAFF)
    assert (await totals(actions)).requests == 4
    row = await database.fetchrow("select * from rollup_drift where id = $1", hour.id)
    assert row is not None
    assert (row["repaired_by"], row["reason"]) == (STAFF, "A hand in the table.")


async def test_the_billing_team_corrects_and_the_user_sees_it(billing: Billing) -> None:
    usage = a_usage(user=ADA, at=NOON)
    await billing.record(usage)
    wanted = {
        "event_id": str(usage.id),
        "reason": "The vendor counted again.",
        "deltas": {"input_tokens": -200, "cost_microusd": -31},
    }

    async def ask(body: Any, key: str | None, role: str = "billing") -> httpx.Response:
        headers = {} if key is None else {"idempotency-key": key}
        path = "admin/adjustments"
        return await billing.send("POST", path, STAFF, role=role, json=body, headers=headers)

    refused = await ask(wanted, "one", role="member")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_billing_staff")
    made = await ask(wanted, "one")
    assert made.status_code == 201, made.text
    assert "idempotency-replayed" not in made.headers
    # Asked again, it is the same; with another key it is another one.
    for _again in range(2):
        same = await ask(wanted, "one")
        assert (same.status_code, same.json()) == (201, made.json())
        assert same.headers["idempotency-replayed"] == "true"
    other = await ask({**wanted, "reason": "Something else."}, "one")
    assert (other.status_code, other.json()["code"]) == (409, "adjustment_key_reused")
    assert (await ask(wanted, None)).status_code == 422
    misspelt = {**wanted, "deltas": {"input_tokens": -1, "cost_microusds": -31}}
    assert (await ask(misspelt, "two")).status_code == 422
    life = (await billing.get(f"usage/records/{usage.id}", ADA)).json()["life"]
    assert [step["step"] for step in life] == ["occurred", "received", "rated", "adjusted"]
    assert life[-1]["reason"] == "The vendor counted again."
    assert life[-1]["deltas"]["cost_microusd"] == -31
    void = {"event_id": str(usage.id), "reason": "None of it."}
    voided = await ask(void, "two", role="operator")
    assert voided.status_code == 201
    assert (await ask(void, "two")).json() == voided.json()
    again = await ask(void, "three")
    assert (again.status_code, again.json()["code"]) == (409, "usage_voided_already")
    for wrong in ({**void, "reason": ""}, {**void, "event_id": "x"}, {**void, "more": 1}):
        assert (await ask(wrong, "four")).status_code == 422
    seen = await billing.send("GET", "admin/reconciliation", STAFF, role="billing")
    assert {"unlinked_records", "rollup_check", "rollup_drifts"} <= set(seen.json())
    nothing = {"drift_id": 1_000_000, "reason": "Nothing there."}
    answer = await billing.send("POST", "admin/repairs", STAFF, role="billing", json=nothing)
    assert (answer.status_code, answer.json()["code"]) == (404, "drift_not_found")
