"""Reads every usage event off the queue `billing.export` and keeps each once, in SQLite.

It stands alone: nothing of the suite is imported. Copy it, and write to where you need it.

    pip install "celery[redis]"
    export BROKER_URL=redis://…        # or amqp://…: the suite's broker
    export USAGE_DATABASE=usage.sqlite3
    celery --app usage_consumer worker --pool solo --queues billing.export

A message is a batch of events of one stream. It comes at least once: again when this process died
before it had said that it was done, and when somebody asked a producer to send a range again. What
makes an event one is its id; so the id is the primary key, and a batch is written in one
transaction before its message is acknowledged.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu import Exchange, Queue

BROKER_URL = os.environ["BROKER_URL"]
DATABASE = os.environ.get("USAGE_DATABASE", "usage.sqlite3")
ON_RABBITMQ = urlsplit(BROKER_URL).scheme.startswith(("amqp", "pyamqp"))
VISIBILITY_SECONDS = int(os.environ.get("USAGE_VISIBILITY_SECONDS", "300"))

TABLES = """
create table if not exists usage (
    event_id text primary key, user_id text not null, tier text not null, time text not null,
    provider text not null, model text not null, operation text not null,
    input_tokens integer not null, output_tokens integer not null, characters integer not null,
    sandbox integer not null, event text not null
);
create table if not exists reported (
    event_id text primary key, user_id text not null, tier text not null, time text not null,
    meter text not null, model text not null, units integer not null, unit text not null,
    sandbox integer not null, event text not null
);
create table if not exists correction (
    event_id text primary key, corrects text not null, type text not null, time text not null,
    event text not null
);
create table if not exists manifest (
    producer text, epoch text, stream text, last_sequence integer not null,
    primary key (producer, epoch, stream)
);
create table if not exists unreadable (body text primary key);
"""
ADD_USAGE = "insert or ignore into usage values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ADD_REPORTED = "insert or ignore into reported values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ADD_CORRECTION = "insert or ignore into correction values (?, ?, ?, ?, ?)"
# How far a producer says it has come: compare it with the `producerseq` of what has come.
NOTE_MANIFEST = """
insert into manifest values (?, ?, ?, ?) on conflict do update
set last_sequence = max(last_sequence, excluded.last_sequence)
"""

app = Celery("usage-consumer", broker=BROKER_URL)
app.conf.update(
    # The suite declares the queue and its limits; its type is told so that Celery knows how to
    # read it on RabbitMQ.
    task_queues=[
        Queue(
            "billing.export",
            Exchange("companion.events", type="topic"),
            queue_arguments={"x-queue-type": "quorum"} if ON_RABBITMQ else {},
            no_declare=True,
        )
    ],
    task_create_missing_queues=False,
    accept_content=["json"],
    task_ignore_result=True,
    # Acknowledge what is written, and nothing else.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_detect_quorum_queues=True,
    broker_connection_retry_on_startup=True,
    # On Valkey every process that uses the broker must agree on it: the shortest time wins for all.
    broker_transport_options={}
    if ON_RABBITMQ
    else {
        "visibility_timeout": VISIBILITY_SECONDS,
        # A process that is killed while it gives messages back keeps all others, also the suite's
        # own, from doing so for as long.
        "unacked_mutex_expire": min(30, VISIBILITY_SECONDS),
        "priority_steps": [0],
        "socket_keepalive": True,
    },
)


def usage_row(event: Mapping[str, Any]) -> tuple[Any, ...]:
    """A usage event as a row; the whole event is kept beside it."""
    data = event["data"]
    return (
        event["id"],
        data["user_id"],
        event["tier"],
        event["time"],
        data["provider"],
        data["model"],
        data["operation"],
        data.get("input_tokens", 0),
        data.get("output_tokens", 0),
        data.get("characters", 0),
        bool(data.get("sandbox", False)),
        json.dumps(event),
    )


def reported_row(event: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a service outside the suite told; its time is when it was used."""
    data = event["data"]
    return (
        event["id"],
        data["user_id"],
        event["tier"],
        data["occurred_at"],
        data["meter"],
        data["model"],
        data["units"],
        data["unit"],
        bool(data.get("sandbox", False)),
        json.dumps(event),
    )


def write(batch: Any) -> None:
    """Everything that a batch holds, in one transaction. What can't be read is kept as it is."""
    with closing(sqlite3.connect(DATABASE, timeout=30)) as database, database:
        database.executescript(TABLES)
        try:
            events: list[Mapping[str, Any]] = list(batch["events"])
            if len(events) != batch["count"]:
                raise ValueError("the batch is not whole")
            add(database, events)
        except (KeyError, TypeError, ValueError, AttributeError):
            database.rollback()
            database.execute("insert or ignore into unreadable values (?)", [json.dumps(batch)])


def add(database: sqlite3.Connection, events: Iterable[Mapping[str, Any]]) -> None:
    """Each event by its type; one of a type that we don't know is none of ours."""
    for event in events:
        data = event["data"]
        if event["type"] == "usage.recorded":
            database.execute(ADD_USAGE, usage_row(event))
        elif event["type"] == "usage.reported":
            database.execute(ADD_REPORTED, reported_row(event))
        elif event["type"] in ("usage.voided", "usage.adjusted"):
            row = (event["id"], data["event_id"], event["type"], event["time"], json.dumps(event))
            database.execute(ADD_CORRECTION, row)
        elif event["type"] == "usage.manifest":
            place = (data["producer"], data["epoch"], data["stream"], data["last_sequence"])
            database.execute(NOTE_MANIFEST, place)


def batch_of(body: Any) -> Any:
    """The batch in a message's whole body, which comes in its place when the suite's own worker had
    to send the message again; the body itself if there is none in it."""
    try:
        return json.loads(body)[1]["batch"]
    except (KeyError, TypeError, ValueError, IndexError):
        return ascii(body)


def receive(batch: Any = None, unread: Any = None, **_unknown: Any) -> None:
    """A message. It waits for as long as the database is away: to raise would give it up."""
    if unread is not None:
        batch = batch_of(unread)
    while True:
        try:
            write(batch)
            return
        except sqlite3.OperationalError:
            time.sleep(1)


TYPES = ("usage.recorded", "usage.reported", "usage.voided", "usage.adjusted", "usage.manifest")
for type_ in TYPES:
    app.task(name=type_)(receive)
