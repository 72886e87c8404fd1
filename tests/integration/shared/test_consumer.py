"""What becomes of a batch that arrives: handled, divided, waited for, or put aside."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.db.database import Database, open_database
from shared.errors import Conflict, DependencyUnavailable, Unavailable
from shared.events import Fact
from shared.events.base import current_request_id, current_traceparent
from shared.events.usage import UsageRecorded
from shared.events.user import UserRegistered
from shared.messaging import batch as batches
from shared.messaging import consumer as consumers
from shared.messaging.consumer import Consumer
from shared.messaging.dead_events import DeadEvent, DeadEvents
from shared.messaging.subscriptions import Listen, Told
from tests.support.engines import PostgresServer
from tests.support.event_service.world import a_usage

TYPE = UsageRecorded.type


class Notes:
    """A handler that remembers its calls, and fails as it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[UUID]] = []
        self.request_ids: list[str | None] = []
        self.fail: Callable[[Sequence[Fact[Any]]], None] = lambda _facts: None

    async def __call__(self, facts: Sequence[Fact[Any]], _given: Any) -> None:
        self.calls.append([fact.id for fact in facts])
        self.request_ids.append(current_request_id.get())
        self.fail(facts)


@pytest.fixture
async def database(postgres_server: PostgresServer, tables: str) -> AsyncIterator[Database]:
    with postgres_server.fresh_database(template=tables) as url:
        async with open_database(url, connections=2, application="test") as database:
            yield database


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def consumer(database: Database, notes: Notes) -> Consumer:
    listen = Listen("scribe")
    listen.to(UsageRecorded, queue="usage")(notes)
    return Consumer(listen, None, database)


@pytest.fixture
def dead(database: Database) -> DeadEvents:
    return DeadEvents("scribe", database)


def facts_of(count: int) -> list[Fact[UsageRecorded]]:
    return [Fact(event=a_usage(), subject=uuid4(), tier="free") for _ in range(count)]


def wire_of(facts: Sequence[Fact[Any]]) -> dict[str, Any]:
    epoch = uuid4()
    envelopes = [fact.sent_as(epoch, n).to_wire() for n, fact in enumerate(facts, 1)]
    return batches.to_wire("herald", epoch, envelopes)


async def buried(dead: DeadEvents) -> list[DeadEvent]:
    return (await dead.list(most=500))[::-1]


async def test_a_batch_is_handled_in_one_call(
    consumer: Consumer, notes: Notes, dead: DeadEvents
) -> None:
    facts = facts_of(20)
    await consumer.receive(TYPE, wire_of(facts))
    assert notes.calls == [[fact.id for fact in facts]]
    assert await buried(dead) == []


async def test_a_handler_knows_the_request_that_an_event_came_from(
    consumer: Consumer, notes: Notes
) -> None:
    fact = Fact(event=a_usage(), subject=uuid4(), tier="free", request_id="request-77")
    await consumer.receive(TYPE, wire_of([fact]))
    assert notes.request_ids == ["request-77"]


@pytest.mark.parametrize("failure", [ValueError("a bug"), Conflict("declined")])
async def test_what_fails_is_found_one_by_one(
    consumer: Consumer, notes: Notes, dead: DeadEvents, failure: Exception
) -> None:
    facts = facts_of(10)

    def fail(handled: Sequence[Fact[Any]]) -> None:
        if facts[3].id in {fact.id for fact in handled}:
            raise failure

    notes.fail = fail
    await consumer.receive(TYPE, wire_of(facts))
    assert notes.calls[1:] == [[fact.id] for fact in facts]
    [letter] = await buried(dead)
    assert letter.task == TYPE
    assert letter.reason == f"handler_failed: {type(failure).__name__}"
    assert letter.body["id"] == str(facts[3].id)


async def test_trouble_that_passes_is_waited_for(
    consumer: Consumer, notes: Notes, dead: DeadEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "_FIRST_WAIT_SECONDS", 0.001)

    def fail(_facts: Sequence[Fact[Any]]) -> None:
        if len(notes.calls) < 4:
            raise Unavailable("not now")

    notes.fail = fail
    await consumer.receive(TYPE, wire_of(facts_of(3)))
    assert len(notes.calls) == 4
    assert all(call == notes.calls[0] for call in notes.calls)
    assert await buried(dead) == []


async def test_a_burial_waits_for_trouble_to_pass_too(
    consumer: Consumer, database: Database, dead: DeadEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is acknowledged once it is done, and would be gone."""
    monkeypatch.setattr(consumers, "_FIRST_WAIT_SECONDS", 0.001)
    await database.execute("create sequence tries")
    await database.execute(
        "create function locked() returns trigger language plpgsql as $$ begin"
        " if nextval('tries') < 4 then raise lock_not_available; end if; return new; end $$"
    )
    await database.execute(
        "create trigger locked before insert on dead_event for each row execute function locked()"
    )
    await consumer.receive(TYPE, {"no": "batch"})
    assert [letter.body for letter in await buried(dead)] == [{"no": "batch"}]


async def test_a_batch_that_ended_its_process_too_often_is_put_aside_unhandled(
    consumer: Consumer, notes: Notes, dead: DeadEvents
) -> None:
    wire = wire_of(facts_of(2))
    await consumer.receive(TYPE, wire, attempts=9)
    assert len(notes.calls) == 1
    await consumer.receive(TYPE, wire, attempts=10)
    assert len(notes.calls) == 1
    [letter] = await buried(dead)
    assert (letter.reason, letter.body) == ("process_lost", wire)


async def test_events_of_another_type_are_put_aside(
    consumer: Consumer, notes: Notes, dead: DeadEvents
) -> None:
    stranger = Fact(event=UserRegistered(user_id=uuid4()), subject=uuid4(), tier="free")
    facts = facts_of(2)
    await consumer.receive(TYPE, wire_of([facts[0], stranger, facts[1]]))
    assert notes.calls == [[fact.id for fact in facts]]
    [letter] = await buried(dead)
    assert letter.reason == "wrong_type: user.registered"


async def test_an_event_whose_text_cannot_be_stored_is_kept_all_the_same(
    consumer: Consumer, notes: Notes, dead: DeadEvents
) -> None:
    def fail(_facts: Sequence[Fact[Any]]) -> None:
        raise ValueError

    notes.fail = fail
    fact = Fact(event=a_usage(model="nul: \0"), subject=uuid4(), tier="free")
    await consumer.receive(TYPE, wire_of([fact]))
    [letter] = await buried(dead)
    assert "\\u0000" in letter.body["unstorable"]


async def test_an_operator_finds_the_dead_and_marks_them_replayed(dead: DeadEvents) -> None:
    for number in range(3):
        await dead.store(TYPE, {"n": number}, "because " + "x" * 2000)
    newest, *_ = await dead.list(most=2)
    assert (newest.body, len(newest.reason)) == ({"n": 2}, 1000)
    await dead.mark_replayed(newest.id)
    assert [d.body["n"] for d in await dead.list(most=9)] == [1, 0]
    assert [d.body["n"] for d in await dead.list(most=9, with_replayed=True)] == [2, 1, 0]
    replayed = await dead.get(newest.id)
    assert replayed is not None
    assert (replayed.replayed_at is not None, replayed.is_closed) == (True, False)
    assert await dead.get(10**9) is None


async def test_one_that_is_closed_waits_no_more_and_says_who_said_so_and_why(
    dead: DeadEvents,
) -> None:
    await dead.store(TYPE, "rubbish", "unreadable_batch: no wrapper")
    [waits] = await dead.list(most=2)
    assert not waits.is_closed
    assert [await dead.close(waits.id, by="console:ada", why="came again") for _ in "ab"] == [
        True,
        False,
    ]
    assert await dead.list(most=2) == []
    [closed] = await dead.list(most=2, with_replayed=True)
    assert closed.is_closed
    assert closed.reason == "unreadable_batch: no wrapper; closed by console:ada: came again"
    assert not await dead.close(10**9, by="console:ada", why="there is none")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=JSON)
async def test_any_body_ends_in_one_grave(
    consumer: Consumer, notes: Notes, dead: DeadEvents, body: Any
) -> None:
    before = len(await buried(dead))
    await consumer.receive(TYPE, body)
    assert notes.calls == []
    assert len(await buried(dead)) == before + 1


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(field=st.sampled_from(sorted(facts_of(1)[0].sent_as(uuid4(), 1).to_wire())), value=JSON)
async def test_any_hostile_field_ends_in_a_call_or_a_grave(
    consumer: Consumer, notes: Notes, dead: DeadEvents, field: str, value: Any
) -> None:
    envelope = facts_of(1)[0].sent_as(uuid4(), 1).to_wire() | {field: value}
    before = len(notes.calls) + len(await buried(dead))
    try:
        wire = batches.to_wire("herald", uuid4(), [envelope])
    except TypeError:  # no JSON that a relay could have sent
        return
    await asyncio.wait_for(consumer.receive(TYPE, wire), 5)
    assert len(notes.calls) + len(await buried(dead)) == before + 1


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": "scribe", "type": TYPE, **labels}) or 0.0


async def test_how_old_a_batch_has_become_is_told_by_tier(consumer: Consumer) -> None:
    age = "companion_event_age_seconds"
    before = sample(f"{age}_count", tier="free"), sample(f"{age}_sum", tier="free")
    long_ago = datetime.now(UTC) - timedelta(seconds=100)
    old, new = facts_of(2)
    await consumer.receive(TYPE, wire_of([new, replace(old, time=long_ago)]))
    assert sample(f"{age}_count", tier="free") == before[0] + 1
    assert 100 <= sample(f"{age}_sum", tier="free") - before[1] < 110
    assert sample("companion_event_batch_seconds_count") >= 1


@pytest.mark.parametrize(
    "odd", [{"time": "yesterday"}, {"time": 7}, {"time": "2026-01-01T00:00:00"}]
)
async def test_a_time_that_nobody_can_read_is_no_age(
    consumer: Consumer, odd: dict[str, Any]
) -> None:
    ages = [sample("companion_event_age_seconds_count", tier=tier) for tier in ("free", "none")]
    epoch = uuid4()
    [fact] = facts_of(1)
    envelope = {**fact.sent_as(epoch, 1).to_wire(), **odd}
    await consumer.receive(TYPE, batches.to_wire("herald", epoch, [envelope]))
    assert ages == [
        sample("companion_event_age_seconds_count", tier=tier) for tier in ("free", "none")
    ]


async def test_a_tier_that_nobody_knows_makes_no_label_of_its_own(consumer: Consumer) -> None:
    before = sample("companion_event_age_seconds_count", tier="none")
    [fact] = facts_of(1)
    await consumer.receive(TYPE, wire_of([replace(fact, tier="platinum")]))
    assert sample("companion_event_age_seconds_count", tier="none") == before + 1
    assert sample("companion_event_age_seconds_count", tier="platinum") == 0


async def test_waiting_for_a_dependency_is_counted(
    consumer: Consumer, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "_FIRST_WAIT_SECONDS", 0.001)

    def fail(_facts: Sequence[Fact[Any]]) -> None:
        if len(notes.calls) < 3:
            raise DependencyUnavailable("database")

    notes.fail = fail
    before = sample("companion_event_waits_total", reason="dependency_unavailable")
    await consumer.receive(TYPE, wire_of(facts_of(1)))
    assert sample("companion_event_waits_total", reason="dependency_unavailable") == before + 2


async def test_what_one_batch_is_of_is_not_said_of_the_next(
    consumer: Consumer, database: Database, dead: DeadEvents
) -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def whole(_batch: Any, _given: Any) -> None:
        seen.append((current_request_id.get(), current_traceparent.get()))

    listen = Listen("scribe")
    listen.to(UsageRecorded, queue="usage")(Notes())
    listen.to_whole(UsageRecorded, read=ToldNotes().reads)(whole)
    current_request_id.set("another's")
    current_traceparent.set("00-another's")
    await Consumer(listen, None, database).receive_unread(TYPE, body_of(wire_of(facts_of(1))))
    assert seen == [(None, None)]
    current_request_id.set("another's")
    current_traceparent.set("00-another's")
    await consumer.put_aside(TYPE, b"?", None)
    assert (current_request_id.get(), current_traceparent.get()) == (None, None)


class ToldNotes:
    """Reads batches out of their text, and takes or fails at them as it is told to."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.taken: list[int] = []
        self.requests = ["req-1"]
        self.fail: Exception | None = None
        self.miscounts = False
        self.declines = False
        self.fails_to_read = False

    def reads(self, text: str) -> Told[int] | None:
        self.read.append(text)
        if self.fails_to_read:
            raise LookupError
        if self.declines:
            return None
        envelopes = json.loads(text)
        traces = [one.get("traceparent") for one in envelopes] + [None] * self.miscounts
        oldest = min((one["time"], one["tier"]) for one in envelopes)
        return Told(len(envelopes), requests=self.requests, traces=traces, oldest=oldest)

    async def __call__(self, batch: int, _given: Any) -> None:
        self.taken.append(batch)
        if self.fail is not None:
            raise self.fail


@pytest.fixture
def told() -> ToldNotes:
    return ToldNotes()


@pytest.fixture
def reader(database: Database, notes: Notes, told: ToldNotes) -> Consumer:
    """One whose handler is offered the texts first."""
    listen = Listen("scribe")
    listen.to(UsageRecorded, queue="usage")(notes)
    listen.to_whole(UsageRecorded, read=told.reads)(told)
    return Consumer(listen, None, database)


def body_of(wire: dict[str, Any]) -> bytes:
    return batches.body_of([[], {"batch": wire}, {}])


async def test_a_batch_is_taken_as_the_text_of_its_events(
    reader: Consumer, notes: Notes, told: ToldNotes
) -> None:
    facts = facts_of(3)
    labels = {"service": "scribe", "type": TYPE}
    before = REGISTRY.get_sample_value("companion_events_handled_total", labels) or 0
    wire = wire_of(facts)
    await reader.receive_unread(TYPE, body_of(wire))
    assert (told.taken, notes.calls) == ([3], [])
    assert [json.loads(text) for text in told.read] == [wire["events"]]
    assert REGISTRY.get_sample_value("companion_events_handled_total", labels) == before + 3


async def test_the_requests_of_a_long_batch_are_told_in_lines_that_stay_whole(
    reader: Consumer, told: ToldNotes
) -> None:
    told.requests = [f"{number:064}" for number in range(500)]
    with capture_logs() as logs:
        await reader.receive_unread(TYPE, body_of(wire_of(facts_of(500))))
    lines = [line for line in logs if line["event"] == "events_handled"]
    assert [one for line in lines for one in line["requests"]] == told.requests
    assert [line["count"] for line in lines if "count" in line] == [500]
    # Docker and the kubelet cut what is longer.
    assert max(len(json.dumps(line)) for line in lines) < 16 * 1024 - 500


@pytest.mark.parametrize("how", ["declines", "miscounts", "fails_to_read"])
async def test_what_its_reader_is_not_sure_of_goes_the_usual_way(
    reader: Consumer, notes: Notes, told: ToldNotes, how: str
) -> None:
    setattr(told, how, True)
    facts = facts_of(2)
    await reader.receive_unread(TYPE, body_of(wire_of(facts)))
    assert (told.taken, notes.calls) == ([], [[fact.id for fact in facts]])


async def test_what_fails_as_a_text_is_handled_event_by_event(
    reader: Consumer, notes: Notes, told: ToldNotes, dead: DeadEvents
) -> None:
    told.fail = ValueError("no")
    notes.fail = lambda found: (
        _raise(ValueError("poison")) if bad.id in {f.id for f in found} else None
    )
    good, bad = facts_of(2)
    await reader.receive_unread(TYPE, body_of(wire_of([good, bad])))
    assert notes.calls[-2:] == [[good.id], [bad.id]]
    assert [letter.reason for letter in await buried(dead)] == ["handler_failed: ValueError"]


async def test_a_text_waits_for_a_dependency_too(
    reader: Consumer, notes: Notes, told: ToldNotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "_FIRST_WAIT_SECONDS", 0.01)
    told.fail = DependencyUnavailable("database")
    waiting = asyncio.create_task(reader.receive_unread(TYPE, body_of(wire_of(facts_of(1)))))
    while len(told.taken) < 3:
        await asyncio.sleep(0.01)
    told.fail = None
    await asyncio.wait_for(waiting, 5)
    assert notes.calls == []


async def test_a_text_whose_hash_does_not_fit_is_put_aside_and_never_read(
    reader: Consumer, notes: Notes, told: ToldNotes, dead: DeadEvents
) -> None:
    wire = wire_of(facts_of(2)) | {"sha256": "0" * 64}
    await reader.receive_unread(TYPE, body_of(wire))
    assert (told.read, notes.calls) == ([], [])
    reasons = [letter.reason for letter in await buried(dead)]
    assert reasons == ["unreadable_batch: the hash does not fit"]


async def test_a_text_that_ended_its_process_too_often_is_put_aside_unread(
    reader: Consumer, told: ToldNotes, dead: DeadEvents
) -> None:
    await reader.receive_unread(TYPE, body_of(wire_of(facts_of(2))), attempts=10)
    assert told.read == []
    assert [letter.reason for letter in await buried(dead)] == ["process_lost"]


@pytest.mark.parametrize("form", [zlib.compress, bytes.decode])
async def test_a_batch_is_taken_whole_in_any_form_that_it_comes_in(
    reader: Consumer, notes: Notes, told: ToldNotes, form: Callable[[bytes], bytes | str]
) -> None:
    await reader.receive_unread(TYPE, form(body_of(wire_of(facts_of(3)))))
    assert (told.taken, notes.calls) == ([3], [])


async def test_what_lies_aside_is_kept_unpacked(consumer: Consumer, dead: DeadEvents) -> None:
    broken = zlib.compress(b"[" * 9)
    await consumer.put_aside(TYPE, broken, "m-1")
    await consumer.put_aside(TYPE, broken[:-1], "m-2")
    kept = {letter.body["headers"]: letter.body["body"] for letter in await buried(dead)}
    assert kept == {
        ascii({"id": "m-1", "task": TYPE}): ascii(b"[" * 9),
        ascii({"id": "m-2", "task": TYPE}): ascii(broken[:-1]),
    }


async def test_a_body_that_is_none_is_told_to_be_unreadable(reader: Consumer) -> None:
    for body in (b"", b"[", b"{}", b'[[], {"batch": 1}', "[[], []]", b"x", zlib.compress(b"[")):
        with pytest.raises(batches.UnreadableBody):
            await reader.receive_unread(TYPE, body)


def _raise(error: Exception) -> None:
    raise error
