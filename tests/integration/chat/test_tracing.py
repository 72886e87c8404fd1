"""One trace leads from a user's turn to the ledger, through outbox, relay and queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.billing.settings import Settings
from services.billing.tasks import listen
from services.billing.wiring import Wired, wire
from shared.db.engine import sync_engine
from shared.events.usage import UsageRecorded
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import Publisher
from shared.messaging.queues import declare_queues
from shared.messaging.relay import Relay
from shared.settings import service_database_url
from shared.telemetry import tracing
from tests.integration.chat.conftest import ChatSuite
from tests.support.engines import ValkeyServer
from tests.support.queues import taken_from
from tests.support.tokens import write_identities
from tests.support.trace_collector import TraceCollector, collecting_traces

ANSWER = "POST /chat/sessions/{session_id}/messages"
SEND = "send usage.recorded.free"
HANDLE = "handle usage.recorded"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5  # as OTLP numbers them


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceCollector]:
    with collecting_traces() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20for-the-collector")
        yield collector


@pytest.fixture
async def billing(
    migrated: Callable[[str], str], valkey_server: ValkeyServer, tmp_path: Path
) -> AsyncIterator[Wired]:
    keys = write_identities(tmp_path)
    with valkey_server.fresh_database() as broker_url:
        settings = Settings(
            DATABASE_URL=migrated("billing"),
            CACHE_URL=valkey_server.url,
            BROKER_URL=broker_url,
            JWKS_URL="http://127.0.0.1:1/",
            IDENTITY_KEY_FILE=keys["billing"],
            IDENTITY_TRUST_FILE=tmp_path / "trusted.json",
        )
        declare_queues(listen, broker_url)
        async with wire(settings) as wired:
            yield wired


class Road:
    """From chat's outbox to billing's handler, one stretch at a time."""

    def __init__(self, chat: ChatSuite, billing: Wired, broker_url: str) -> None:
        database_url = chat.settings.database_url.get_secret_value()
        self._engine = sync_engine(service_database_url(database_url, "chat"))
        self._publisher = Publisher(broker_url)
        self._relay = Relay("chat", self._engine, self._publisher)
        self._consumer = Consumer(listen, billing.actions, billing.database)
        self._broker_url = broker_url

    async def send(self) -> None:
        while await asyncio.to_thread(self._relay.run_once):
            pass

    async def handle(self) -> None:
        for batch in await asyncio.to_thread(self._waiting):
            await self._consumer.receive(UsageRecorded.type, batch)

    def close(self) -> None:
        self._publisher.close()
        self._engine.dispose()

    def _waiting(self) -> list[Any]:
        name = next(
            queue.name
            for queue in listen.queues(self._broker_url)
            if any(b.routing_key == "usage.recorded.free" for b in queue.bindings)
        )
        return taken_from(self._broker_url, name)


@pytest.fixture
async def road(chat: ChatSuite, billing: Wired, valkey_server: ValkeyServer) -> AsyncIterator[Road]:
    with valkey_server.fresh_database() as broker_url:
        declare_queues(listen, broker_url)
        road = Road(chat, billing, broker_url)
        # What other tests have left.
        await road.send()
        await road.handle()
        yield road
        road.close()


async def test_a_turn_and_what_it_costs_are_one_trace(
    chat: ChatSuite, road: Road, collector: TraceCollector
) -> None:
    key, question = f"sim-{uuid4().hex}", f"a question about {uuid4().hex}"
    with tracing.traced("chat"):
        async with chat.user(key=key) as ada:
            answer = await ada.ask(question)
            assert answer.status_code == 200
            await road.send()
            await road.handle()
    assert tracing.active is None

    (turn,) = collector.named(ANSWER)
    (call,) = collector.named("call openai")
    (sent,) = collector.named(SEND)
    (handled,) = collector.named(HANDLE)
    parts = (call, sent, handled)
    assert {span.trace_id for span in parts} == {turn.trace_id}
    assert {span.parent_id for span in parts} == {turn.span_id}
    kinds = [span.kind for span in (turn, *parts)]
    assert kinds == [SERVER, CLIENT, PRODUCER, CONSUMER]
    assert turn.parent_id == ""
    assert turn.attributes["http.response.status_code"] == 200
    assert turn.attributes["companion.request_id"] == answer.headers["x-request-id"]
    assert (call.attributes["companion.outcome"], call.failed) == ("answered", False)
    assert handled.attributes["messaging.batch.message_count"] == 1

    # Neither what was said, nor what opens a door.
    token = ada.client.headers["authorization"].removeprefix("Bearer ")
    told = b"".join(collector.raw)
    for secret in (key, question, token, "for-the-collector"):
        assert secret.encode() not in told
    assert collector.headers[0]["authorization"] == "Bearer for-the-collector"


async def test_a_message_of_many_events_is_in_one_trace_and_linked_to_the_others(
    chat: ChatSuite, road: Road, collector: TraceCollector
) -> None:
    with tracing.traced("chat"):
        async with chat.user() as ada, chat.user() as grace:
            for user in (ada, grace):
                assert (await user.ask("Hello.")).status_code == 200
            await road.send()
            await road.handle()
    turns = {span.trace_id for span in collector.named(ANSWER)}
    assert len(turns) == 2
    for name in (SEND, HANDLE):
        (span,) = collector.named(name)
        assert span.attributes["messaging.batch.message_count"] == 2
        assert {span.trace_id, *span.links} == turns


async def test_a_caller_decides_about_its_trace_and_its_sampling(
    chat: ChatSuite, collector: TraceCollector
) -> None:
    trace = uuid4().hex
    with tracing.traced("chat"):
        async with chat.user() as ada:
            for flags in ("01", "00"):
                headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-{flags}"}
                answer = await ada.client.get(f"/chat/sessions/{ada.session_id}", headers=headers)
                assert answer.status_code == 200
    spans = collector.named("GET /chat/sessions/{session_id}")
    assert [(span.trace_id, span.parent_id) for span in spans] == [(trace, "00f067aa0ba902b7")]


async def test_a_collector_that_is_away_holds_nobody_up(
    chat: ChatSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    loop = asyncio.get_running_loop()
    began = loop.time()
    with tracing.traced("chat"):
        async with chat.user() as ada:
            assert (await ada.ask("Hello.")).status_code == 200
    assert loop.time() - began < 8
