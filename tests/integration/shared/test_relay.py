"""What the relay does while the broker is in trouble, and the numbers to alarm on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from shared.db import outbox
from shared.events.user import UserRegistered
from shared.messaging import relay as relays
from shared.messaging.publisher import NotSent, Publisher
from shared.messaging.relay import Relay, keep_running
from shared.messaging.relay_bell import RelayBell
from tests.support.engines import PostgresServer
from tests.support.event_service.world import Herald, a_usage, eventually
from tests.support.query_plans import most_rows

NOBODY_THERE = ["redis://:none@127.0.0.1:1/1", "amqp://none:none@127.0.0.1:1//"]
FREE = "usage.recorded.free"


@pytest.fixture(params=NOBODY_THERE, ids=["valkey", "rabbitmq"])
def cut_off(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, tables: str
) -> Iterator[Herald]:
    """A producer whose broker is out of reach."""
    with postgres_server.fresh_database(template=tables) as url:
        herald = Herald(url, request.param)
        yield herald
        herald.close()


def waiting(service: str = "herald") -> float | None:
    labels = {"service": service, "stream": FREE}
    return REGISTRY.get_sample_value("companion_outbox_waiting", labels)


def oldest(service: str = "herald") -> float | None:
    labels = {"service": service, "stream": FREE}
    return REGISTRY.get_sample_value("companion_outbox_oldest_seconds", labels)


def test_events_stay_in_the_outbox_while_the_broker_is_gone(cut_off: Herald) -> None:
    cut_off.publish([a_usage() for _ in range(3)])
    with pytest.raises(NotSent):
        cut_off.relay().run_once()
    assert cut_off.waiting() == 3
    # Requests go on writing, and what they write waits behind.
    cut_off.publish([a_usage() for _ in range(2)])
    assert cut_off.waiting() == 5
    assert cut_off.sent() == []


def test_a_batch_that_was_not_sent_keeps_its_numbers(cut_off: Herald) -> None:
    cut_off.publish([a_usage() for _ in range(3)])
    with pytest.raises(NotSent):
        cut_off.relay().run_once()
    before = cut_off.rows("select event_id, sequence from outbox order by sequence")
    cut_off.publish([a_usage() for _ in range(2)])
    with pytest.raises(NotSent):
        cut_off.relay().run_once()
    after = cut_off.rows("select event_id, sequence from outbox order by sequence")
    assert [row.sequence for row in after] == [1, 2, 3, 4, 5]
    assert after[:3] == before


def test_the_backlog_is_told_just_while_nothing_can_be_sent(cut_off: Herald) -> None:
    cut_off.publish([a_usage() for _ in range(3)])
    cut_off.run("update outbox set created_at = now() - interval '90 seconds'")
    with pytest.raises(NotSent):
        cut_off.relay().run_once()
    assert waiting() == 3
    age = oldest()
    assert age is not None
    assert 90 <= age < 100


def test_relays_of_one_process_leave_each_others_numbers_alone(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_GAUGE_SECONDS", 0)
    cut_off.publish([a_usage()])
    with pytest.raises(NotSent):
        cut_off.relay().run_once()
    cut_off.run("delete from outbox")
    Relay("other", cut_off.engine, cut_off.publisher()).run_once()
    assert waiting() == 1


def test_a_stream_that_is_empty_again_counts_zero(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_GAUGE_SECONDS", 0)
    cut_off.publish([a_usage()])
    relay = cut_off.relay()
    with pytest.raises(NotSent):
        relay.run_once()
    assert waiting() == 1
    cut_off.run("delete from outbox")
    relay.run_once()
    assert (waiting(), oldest()) == (0, 0)


def test_a_long_backlog_makes_no_turn_longer(cut_off: Herald) -> None:
    cut_off.run(
        "insert into outbox (event_id, stream, envelope, created_at)"
        " select gen_random_uuid(), s, '{}', now() - n * interval '1 ms'"
        " from generate_series(1, 4000) n, unnest(array['usage.recorded.free', 'a.b.pro']) s"
    )
    cut_off.run("analyze outbox")
    assert outbox.waiting_streams(cut_off.engine, most=200) == {FREE: 200, "a.b.pro": 200}
    claim = {"stream": FREE, "most": 200, "lease_seconds": 30.0}
    for statement, values in ((outbox._STREAMS, {"most": 200}), (outbox._CLAIM, claim)):
        with cut_off.engine.begin() as connection:
            # Of so few rows it would read all to find the 200 that it has picked.
            connection.execute(text("set local enable_hashjoin = off"))
            explain = text(f"explain (analyze, format json) {statement.text}")
            assert most_rows(connection.execute(explain, values).scalar_one()) <= 400


class _Hearing(Publisher):
    """Hears the sizes of the batches instead of sending them."""

    def __init__(self) -> None:
        self.sizes: list[tuple[str, int]] = []

    def send(self, stream: str, type_: str, batch: Mapping[str, Any], *, routed: bool) -> None:
        self.sizes.append((stream, batch["count"]))


def test_usage_waits_for_company_and_other_facts_do_not(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, clock = _Hearing(), StoppedMonotonic()
    monkeypatch.setattr(relays, "time", clock)
    relay = Relay("herald", cut_off.engine, publisher)
    cut_off.publish([a_usage(), UserRegistered(user_id=uuid4())])
    assert relay.due_in == float("inf")
    assert relay.run_due() == 1
    assert relay.due_in == 0.5
    cut_off.publish([a_usage()])
    clock.now += 0.4
    assert relay.run_due() == 0
    assert relay.due_in == pytest.approx(0.1)
    clock.now += 0.2
    assert relay.due_in == 0
    assert relay.run_due() == 2
    assert relay.due_in == float("inf")
    assert publisher.sizes == [("user.registered.free", 1), (FREE, 2)]
    # The next one waits anew.
    cut_off.publish([a_usage()])
    assert relay.run_due() == 0
    assert relay.due_in == 0.5


def test_a_full_batch_of_usage_does_not_wait(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BATCH_SIZE", 3)
    publisher = _Hearing()
    relay = Relay("herald", cut_off.engine, publisher)
    cut_off.publish([a_usage() for _ in range(4)])
    assert relay.run_due() == 3
    assert publisher.sizes == [(FREE, 3)]


def test_a_producer_whose_clock_is_ahead_is_not_waited_for(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StoppedMonotonic()
    monkeypatch.setattr(relays, "time", clock)
    relay = Relay("herald", cut_off.engine, _Hearing())
    cut_off.publish([a_usage()])
    cut_off.run("update outbox set created_at = now() + interval '1 hour'")
    assert relay.run_due() == 0
    clock.now += 0.5
    assert relay.run_due() == 1


class StoppedMonotonic:
    """As much of the module `time` as a relay asks."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class _FailingOnce(Publisher):
    failed = False

    def send(self, *_arguments: object, **_options: object) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("a bug")


def test_a_bug_does_not_end_the_only_relay_of_an_outbox(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_PAUSE_IN_TROUBLE", 0)
    cut_off.publish([a_usage()])
    publisher = _FailingOnce(cut_off.broker_url)
    relay = Relay("herald", cut_off.engine, publisher)
    stop, bell = threading.Event(), RelayBell(cut_off.url)
    thread = threading.Thread(target=keep_running, args=(relay, bell, stop, "herald"))
    thread.start()
    try:
        eventually(lambda: publisher.failed, "the bug has struck")
        cut_off.expire_leases()
        eventually(lambda: cut_off.waiting() == 0, "the batch is sent after all")
    finally:
        stop.set()
        bell.end()
        thread.join()
        bell.close()


class _AwayForAWhile(Publisher):
    """A broker that does not answer, and then does."""

    tries = 0

    def send(self, stream: str, *_given: Any, **_named: Any) -> None:
        self.tries += 1
        if self.tries <= 3:
            raise NotSent("TimeoutError")


def test_an_outage_is_told_of_once_and_so_is_its_end(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_PAUSE_IN_TROUBLE", 0)
    # One that is used for the first time below: loggers keep what was set up at their first use.
    monkeypatch.setattr(relays, "log", structlog.get_logger())
    cut_off.publish([a_usage()])
    publisher = _AwayForAWhile(cut_off.broker_url)
    relay = Relay("herald", cut_off.engine, publisher)
    stop, bell = threading.Event(), RelayBell(cut_off.url)
    with capture_logs() as logs:
        thread = threading.Thread(target=keep_running, args=(relay, bell, stop, "herald"))
        thread.start()
        try:
            eventually(lambda: cut_off.waiting() == 0, "the batch is sent after all")
        finally:
            stop.set()
            bell.end()
            thread.join()
            bell.close()
    assert publisher.tries == 4
    told = [(one["event"], one.get("waits_for"), one.get("reason")) for one in logs]
    assert told == [("relay_waits", "broker", "TimeoutError"), ("relay_goes_on", None, None)]


class _Away(Publisher):
    """A broker that does not answer."""

    tries = 0

    def send(self, stream: str, *_given: Any, **_named: Any) -> None:
        self.tries += 1
        raise NotSent("TimeoutError")


def test_no_turn_of_an_outage_makes_the_relay_look_ready(
    cut_off: Herald, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(relays, "_PAUSE_IN_TROUBLE", 0)
    publisher, ready_file = _Away(cut_off.broker_url), tmp_path / "ready"
    relay = Relay("herald", cut_off.engine, publisher)
    stop, bell = threading.Event(), RelayBell(cut_off.url)
    # Usage waits for company: a turn without a try must not look like one without trouble.
    cut_off.publish([a_usage()])
    with pytest.raises(NotSent):
        relay.run_once()
    arguments = (relay, bell, stop, "herald", ready_file)
    thread = threading.Thread(target=keep_running, args=arguments)
    thread.start()
    try:
        eventually(lambda: publisher.tries > 5, "it tries again and again")
        assert not ready_file.exists()
        cut_off.run("delete from outbox")
        eventually(ready_file.exists, "with nothing to send it is ready")
    finally:
        stop.set()
        bell.end()
        thread.join()
        bell.close()


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"service": "counting", **labels})


def test_what_was_ever_written_is_told_sent_or_not(cut_off: Herald) -> None:
    relay = Relay("counting", cut_off.engine, _Hearing())
    cut_off.publish([a_usage() for _ in range(3)])
    assert relay.run_once() == 3
    cut_off.publish([a_usage() for _ in range(2)])
    again = Relay("counting", cut_off.engine, _Hearing())
    again.run_once()
    assert gauge("companion_outbox_written", stream=FREE) == 5
    assert gauge("companion_outbox_waiting", stream=FREE) == 2
    # At rest, too.
    Relay("counting", cut_off.engine, _Hearing()).run_once()
    assert gauge("companion_outbox_written", stream=FREE) == 5
    assert gauge("companion_outbox_waiting", stream=FREE) == 0


def test_dead_events_are_counted_in_the_database(cut_off: Herald) -> None:
    body = "insert into dead_event (task, reason, body) values ('usage.recorded', 'a test', '{}')"
    cut_off.run(body)
    cut_off.run(body)
    cut_off.run(
        "update dead_event set replayed_at = now() where id = (select min(id) from dead_event)"
    )
    Relay("counting", cut_off.engine, _Hearing()).run_once()
    assert gauge("companion_dead_events") == 1
