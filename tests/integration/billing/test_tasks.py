"""Billing's worker: what it does with messages, and how a loss is found and made good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import Engine

from services.billing.actions import Actions
from services.billing.tasks import listen
from shared.db.database import Database, open_database
from shared.db.engine import sync_engine
from shared.events import Fact
from shared.events.usage import UsageManifest, UsageRecorded, UsageReplayRequested
from shared.messaging.consumer import Consumer
from shared.tiers import TIERS
from tests.integration.billing.harness import (
    Producer,
    a_message,
    drift,
    ids_in,
    next_message,
)
from tests.support.billing import StoppedClock, a_manifest, a_usage
from tests.support.engines import PostgresServer

FREE, PRO = "usage.recorded.free", "usage.recorded.pro"
ASKED_FREE, MANIFEST_FREE = "usage.replay_requested.free", "usage.manifest.free"
PATIENCE = timedelta(seconds=15)


@pytest_asyncio.fixture
async def producer(postgres_server: PostgresServer, database_url: str) -> AsyncIterator[Producer]:
    """Chat, reduced to its outbox. Every service's event tables are alike, so billing's serve."""
    with postgres_server.fresh_database(template="template_billing") as url:
        engine = sync_engine(url)
        async with open_database(url, connections=2, application="chat") as database:
            yield Producer(database, engine)
        engine.dispose()


@pytest.fixture
def billing_outbox(database_url: str) -> Iterator[Engine]:
    engine = sync_engine(database_url)
    yield engine
    engine.dispose()


def test_what_is_heard_has_a_queue_for_each_tier() -> None:
    names = {queue.name for queue in listen.queues("redis://127.0.0.1/0")}
    by_tier = {
        f"billing.{heard}.{tier}" for heard in ("usage", "users", "organisations") for tier in TIERS
    }
    assert names == by_tier | {"billing.jobs"}


async def test_a_message_lands_in_the_ledger_once(consumer: Consumer, database: Database) -> None:
    usage = [a_usage(sequence=number) for number in range(1, 201)]
    for _ in range(2):
        await consumer.receive(UsageRecorded.type, a_message(usage))
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in usage)
    assert await drift(database) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"id_": uuid4()},
        {"request_id": "r" * 5000},
    ],
    ids=["another id", "a long text"],
)
async def test_a_poisonous_event_is_put_aside_and_the_others_land(
    facts: dict[str, Any], consumer: Consumer, database: Database, actions: Actions
) -> None:
    usage = [a_usage(sequence=number) for number in range(1, 201)]
    usage[99] = poison = a_usage(sequence=100, **facts)
    await consumer.receive(UsageRecorded.type, a_message(usage))
    fine = sorted(fact.id for fact in usage if fact is not poison)
    assert sorted(await ids_in(database)) == fine
    (dead,) = await database.fetch("select task, reason, body from dead_event")
    assert dead["task"] == "usage.recorded"
    assert dead["body"]["id"] == str(poison.id)
    assert await drift(database) == []
    state = await actions.reconcile()
    assert state.dead_events == 1
    # It came, so it is not asked for again only to be buried again.
    assert state.progress[0].missing_count == 0


async def test_text_that_can_not_be_stored_is_put_aside_too(
    consumer: Consumer, database: Database
) -> None:
    strange, fine = a_usage(model="a\x00b", sequence=1), a_usage(sequence=2)
    await consumer.receive(UsageRecorded.type, a_message([strange, fine]))
    assert await ids_in(database) == [fine.id]
    assert len(await database.fetch("select * from dead_event")) == 1


async def test_a_message_that_was_changed_on_its_way_is_put_aside_whole(
    consumer: Consumer, database: Database
) -> None:
    message = a_message([a_usage(sequence=1)])
    message["events"][0]["data"]["output_tokens"] = 0
    await consumer.receive(UsageRecorded.type, message)
    assert await ids_in(database) == []
    (dead,) = await database.fetch("select reason from dead_event")
    assert dead["reason"].startswith("unreadable_batch")


async def test_a_manifest_in_anothers_name_is_put_aside(
    consumer: Consumer, database: Database, actions: Actions
) -> None:
    manifests = [a_manifest(5), a_manifest(9, producer="voice", source="chat")]
    await consumer.receive(UsageManifest.type, a_message(manifests))
    assert [p.stream.producer for p in (await actions.reconcile()).progress] == ["chat"]
    assert len(await database.fetch("select * from dead_event")) == 1


async def test_usage_waits_while_the_database_is_away(
    postgres_server: PostgresServer, database_url: str, consumer: Consumer, database: Database
) -> None:
    name = database_url.rpartition("/")[2]
    usage = [a_usage(sequence=1)]
    async with open_database(
        postgres_server.url_of("postgres"), connections=1, application="operator"
    ) as operator:
        await operator.execute(f"alter database {name} allow_connections false")
        await operator.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
        )
        task = asyncio.create_task(consumer.receive(UsageRecorded.type, a_message(usage)))
        done, _ = await asyncio.wait({task}, timeout=0.5)
        assert not done
        await operator.execute(f"alter database {name} allow_connections true")
        await asyncio.wait_for(task, 10)
    assert await ids_in(database) == [usage[0].id]


async def deliver(message: dict[str, Any] | None, consumer: Consumer) -> None:
    assert message is not None
    await consumer.receive(message["events"][0]["type"], message)


async def test_a_lost_message_is_asked_for_sent_again_and_recorded(
    producer: Producer,
    consumer: Consumer,
    database: Database,
    actions: Actions,
    billing_outbox: Engine,
    clock: StoppedClock,
) -> None:
    usage = [a_usage() for _ in range(30)]
    await producer.publish(usage)
    await deliver(producer.send(FREE, most=10), consumer)
    assert producer.send(FREE, most=10) is not None  # and is lost
    await deliver(producer.send(FREE, most=10), consumer)

    await actions.request_missing_usage()
    clock.forward(PATIENCE)
    assert await actions.request_missing_usage() == 1
    request = next_message(billing_outbox, "billing", ASKED_FREE)
    assert request is not None
    await producer.receive(UsageReplayRequested.type, request)
    await deliver(producer.send(FREE), consumer)

    assert sorted(await ids_in(database)) == sorted(
        row["event_id"] for row in await producer.database.fetch("select * from outbox_sent")
    )
    assert len(await ids_in(database)) == 30
    assert await drift(database) == []
    await actions.request_missing_usage()
    state = await actions.reconcile()
    assert (state.gaps, state.progress[0].complete_up_to) == ([], 30)


async def test_a_loss_at_the_end_is_found_through_the_manifest(
    producer: Producer,
    consumer: Consumer,
    database: Database,
    actions: Actions,
    billing_outbox: Engine,
    clock: StoppedClock,
) -> None:
    await producer.publish([a_usage(), a_usage()])
    assert producer.send(FREE) is not None  # and is lost: billing has heard of nothing
    await producer.announce()
    await deliver(producer.send(MANIFEST_FREE), consumer)

    await actions.request_missing_usage()
    clock.forward(PATIENCE)
    assert await actions.request_missing_usage() == 1
    request = next_message(billing_outbox, "billing", ASKED_FREE)
    assert request is not None
    await producer.receive(UsageReplayRequested.type, request)
    await deliver(producer.send(FREE), consumer)
    assert len(await ids_in(database)) == 2
    assert (await actions.reconcile()).progress[0].complete_up_to == 2


async def test_a_producer_announces_its_usage_streams_and_no_others(producer: Producer) -> None:
    await producer.announce()
    # That nothing was used yet is said too: only who is broken says nothing.
    assert await _announced(producer) == {(MANIFEST_FREE, "chat", 0)}
    await producer.database.execute("delete from outbox")
    await producer.publish([a_usage(tier="pro"), a_usage(), a_usage()])
    producer.send(FREE)
    producer.send(PRO)
    await producer.announce()
    await producer.announce()
    rows = await producer.database.fetch("select stream, envelope from outbox order by stream")
    assert await _announced(producer) == {
        (MANIFEST_FREE, "chat", 2),
        ("usage.manifest.pro", "chat", 1),
    }
    # What is announced has been told by stream and epoch, and is not announced in its turn.
    assert {row["envelope"]["data"]["stream"] for row in rows} == {FREE, PRO}


async def _announced(producer: Producer) -> set[tuple[str, str, int]]:
    rows = await producer.database.fetch("select stream, envelope from outbox")
    return {
        (row["stream"], row["envelope"]["source"], row["envelope"]["data"]["last_sequence"])
        for row in rows
    }


async def test_a_producer_answers_for_itself_and_its_present_epoch_only(
    producer: Producer,
) -> None:
    await producer.publish([a_usage() for _ in range(5)])
    sent = producer.send(FREE)
    assert sent is not None
    mine = {
        "producer": "chat",
        "stream": FREE,
        "epoch": sent["epoch"],
        "first_sequence": 2,
        "last_sequence": 4,
    }
    others: list[dict[str, Any]] = [
        {"producer": "voice"},
        {"epoch": str(uuid4())},
        {"stream": PRO},
        {"stream": "subscription.changed.free"},
        {"first_sequence": 6, "last_sequence": 9},
    ]
    for wrong in others:
        await producer.receive(UsageReplayRequested.type, _asking({**mine, **wrong}))
        assert producer.send(FREE) is None
    for _ in range(2):  # the second one finds it already on its way
        await producer.receive(UsageReplayRequested.type, _asking(mine))
    again = producer.send(FREE)
    assert again is not None
    assert again["events"] == sent["events"][1:4]
    assert producer.send(FREE) is None


def _asking(request: dict[str, Any]) -> dict[str, Any]:
    event = UsageReplayRequested.model_validate(request)
    return a_message([Fact(event=event, subject=uuid4(), tier="free", source="billing")], "billing")


async def test_every_job_does_its_work(actions: Actions, database: Database) -> None:
    names = set()
    for name, job in listen.jobs.items():
        await job.run(database if job.given == "database" else actions)
        names.add(name)
    assert names == {
        "billing.jobs.request_missing_usage",
        "billing.jobs.rate_unpriced_usage",
        "billing.jobs.prepare_ledger",
        "billing.jobs.forget_old_events",
        "billing.jobs.forget_users",
        "billing.jobs.advance_subscriptions",
        "billing.jobs.tell_payers",
        "billing.jobs.catch_up_on_payments",
        "billing.jobs.watch_forgotten_users",
        "billing.jobs.compare_manifests",
        "billing.jobs.watch_producers",
        "billing.jobs.tell_limits",
        "billing.jobs.link_ledger",
        "billing.jobs.verify_ledger",
        "billing.jobs.check_rollups",
        "billing.jobs.archive_ledger",
        "billing.jobs.export_days",
        "billing.jobs.keep_export_queue",
        "billing.jobs.rerate_usage",
        "billing.jobs.make_invoices",
        "billing.jobs.derive_activity",
        "billing.jobs.tell_spending",
        "billing.jobs.forget_webhook_deliveries",
        "billing.jobs.drop_left_details",
    }
    assert await database.fetch("select * from outbox") == []
