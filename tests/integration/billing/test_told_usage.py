"""A batch of usage leaves the same behind, whichever way a worker has read it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.billing.actions import Actions
from services.billing.tasks import listen, usage_text
from shared.db.database import Database
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import drift, take_in
from tests.integration.billing.test_copied_usage import forget_all, kept
from tests.support.billing import EPOCH, NOON, a_speech, a_usage

# What a producer must not write; the last is written as none of ours does.
_BAD: Sequence[dict[str, Any]] = (
    {"input_tokens": -1},
    {"operation": "hologram"},
    {"user_id": "nobody"},
    {"session_id": "019A0000-0000-7000-8000-000000000000"},
)


def some_batches(seed: int) -> list[dict[str, Any]]:
    """Some that come twice, overlap, hold bad events, late ones, and such of no known price."""
    chance = random.Random(seed)
    people, organisations = [uuid4() for _ in range(5)], [uuid4(), None, None]
    events = []
    for sequence in range(1, 241):
        make: Callable[..., Fact[UsageRecorded]] = a_speech if chance.random() < 0.2 else a_usage
        model = {"model": "modèle"} if chance.random() < 0.1 else {}
        late = timedelta(days=chance.choice([0, 0, 0, 40]), minutes=chance.randrange(180))
        fact = make(
            user=chance.choice(people),
            at=NOON - late,
            sequence=sequence,
            epoch=EPOCH,
            producer="chat",
            sandbox=chance.random() < 0.2,
            cached=chance.random() < 0.1,
            session_id=chance.choice([uuid4(), None]),
            key_organisation_id=chance.choice(organisations),
            **model,
        )
        events.append(fact.to_wire())
    wires = []
    for first in range(0, 240, 30):
        batch = [dict(one, data=dict(one["data"])) for one in events[first : first + 30]]
        if chance.random() < 0.4:
            batch[7]["data"].update(chance.choice(_BAD))
        wires.append(batches.to_wire("chat", EPOCH, batch))
    wires.append(batches.to_wire("chat", EPOCH, events[20:40]))  # partly new
    wires.append(batches.to_wire("chat", EPOCH, events[100:101] * 2 + events[101:104]))
    wires += chance.sample(wires, 4)
    wires.append(wires[0] | {"sha256": "0" * 64})
    return chance.sample(wires, len(wires))


async def left(actions: Actions, database: Database) -> dict[str, Any]:
    """The ledger, sums and what waits; what was put aside; and the chain over it."""
    found: dict[str, Any] = await kept(database)
    rows = await database.fetch("select task, reason, body from dead_event order by id")
    found["dead"] = [tuple(row) for row in rows]
    found["linked"] = await actions.link_ledger()
    # They stand in the order in which they came, which differs; here by their ids.
    links = await database.fetch(
        "select chain, id, substring(kinds from place::int for 1) as kind"
        " from ledger_link, unnest(ids) with ordinality as given (id, place) order by 1, 2, 3"
    )
    found["links"] = [tuple(row) for row in links]
    days = await database.fetch("select * from usage_day order by 1, 2, 3, 4, 5, 6")
    found["days"] = [tuple(row) for row in days]
    assert await drift(database) == []
    verdicts = await actions.verify_ledger()
    assert len(verdicts) > 1
    assert [verdict.broken for verdict in verdicts] == [None] * len(verdicts)
    return found


async def forget(database: Database) -> None:
    await forget_all(database)
    await database.execute("truncate dead_event, ledger_link, usage_day")


@pytest.mark.parametrize("seed", range(4))
async def test_batches_at_once_and_events_one_by_one_leave_the_same(
    consumer: Consumer, actions: Actions, database: Database, seed: int
) -> None:
    wires = some_batches(seed)
    for wire in wires:
        await take_in(consumer, wire)
    at_once = await left(actions, database)
    assert len(at_once["ledger_entry"]) > 200
    assert at_once["dead"]
    await forget(database)
    for wire in wires:
        await consumer.receive(UsageRecorded.type, wire)
    assert await left(actions, database) == at_once


def test_usage_is_read_out_of_its_text() -> None:
    whole = listen.subscriptions[UsageRecorded.type].whole
    assert whole is not None
    assert whole.read is usage_text.read_text
