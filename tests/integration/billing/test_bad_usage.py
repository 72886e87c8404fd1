"""Usage on the broker that can't be true: put aside alone, seen, and in nobody's bill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.billing.actions import Actions
from shared.db.database import Database
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import drift, ids_in, take_in
from tests.support.billing import EPOCH, a_usage, id_made_at


def a_batch(*changes: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A message with two good events around bad ones, each bad in one way."""
    facts = [a_usage(sequence=place) for place in range(1, len(changes) + 3)]
    envelopes = [fact.to_wire() for fact in facts]
    for envelope, change in zip(envelopes[1:], changes, strict=False):
        envelope["data"] |= change
    return batches.to_wire("chat", EPOCH, envelopes), envelopes


@pytest.mark.parametrize(
    "change",
    [
        {"input_tokens": -1},
        {"characters": -(2**60)},
        {"output_tokens": 10**12 + 1},
        {"input_tokens": 2**64 - 1},
        {"input_tokens": 1.5},
        {"operation": "hologram"},
        {"source": "guessed"},
    ],
    ids=str,
)
async def test_it_is_put_aside_alone_and_seen(
    consumer: Consumer, actions: Actions, database: Database, change: dict[str, Any]
) -> None:
    message, envelopes = a_batch(change)
    for _ in range(2):
        await take_in(consumer, message)
    good = {envelopes[0]["id"], envelopes[-1]["id"]}
    assert {str(id_) for id_ in await ids_in(database)} == good
    dead = await database.fetch("select body from dead_event")
    assert {row["body"]["id"] for row in dead} == {envelopes[1]["id"]}
    # It has come: its producer is not asked for it, and the month is not closed over it.
    state = await actions.reconcile()
    assert [one.missing_count for one in state.progress] == [0]
    assert state.dead_events >= 1
    assert await drift(database) == []


async def test_a_name_that_is_too_long_is_cut_and_its_usage_counts(
    consumer: Consumer, database: Database
) -> None:
    message, envelopes = a_batch({"model": "x" * 301, "provider_request_id": "y" * 415})
    await take_in(consumer, message)
    assert len(await ids_in(database)) == len(envelopes)
    row = await database.fetchrow(
        "select provider_request_id from ledger_entry where model = $1", "x" * 300
    )
    assert row is not None
    assert row["provider_request_id"] == "y" * 300


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_producers_clock_that_is_ten_minutes_off_loses_and_doubles_nothing(
    consumer: Consumer, actions: Actions, database: Database, minutes: int
) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    facts = [a_usage(user=uuid4(), at=at, id_=id_made_at(at), sequence=n) for n in range(1, 6)]
    message = batches.to_wire("chat", EPOCH, [fact.to_wire() for fact in facts])
    for _ in range(2):
        await take_in(consumer, message)
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in facts)
    rows = await database.fetch("select occurred_at, cost_microusd from ledger_entry")
    assert {(row["occurred_at"], row["cost_microusd"]) for row in rows} == {(at, 205)}
    assert (await actions.reconcile()).stray_rows == 0
    assert await drift(database) == []
