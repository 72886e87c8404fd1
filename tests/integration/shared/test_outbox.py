"""Which events a relay is given, in which order, and for how long nobody else is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from shared.db import outbox
from shared.events.user import UserRegistered
from shared.ids import uuid7
from shared.messaging import stuck_streams
from shared.messaging.publisher import Publisher, Unroutable
from shared.messaging.relay import Relay
from tests.support.clocks import StoppedTime
from tests.support.engines import PostgresServer
from tests.support.event_service.world import Herald, a_usage

NOBODY_THERE = "redis://:none@127.0.0.1:1/1"
FREE, PRO = "usage.recorded.free", "usage.recorded.pro"
LEASE = timedelta(seconds=30)


@pytest.fixture
def producer(postgres_server: PostgresServer, tables: str) -> Iterator[Herald]:
    with postgres_server.fresh_database(template=tables) as url:
        herald = Herald(url, NOBODY_THERE)
        yield herald
        herald.close()


def claimed(producer: Herald, *, most: int = 200) -> outbox.Batch:
    batch = outbox.claim(producer.engine, FREE, most=most, lease=LEASE)
    assert batch is not None
    return batch


def test_numbers_follow_the_order_in_which_it_happened(producer: Herald) -> None:
    for _ in range(6):
        producer.publish([a_usage()])
    written = [row.event_id for row in producer.rows("select * from outbox order by created_at")]
    batches = claimed(producer, most=4), claimed(producer, most=4)
    events = [event for batch in batches for event in batch.events]
    assert [event.event_id for event in events] == written
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]


def test_what_could_not_be_sent_goes_before_what_came_later(producer: Herald) -> None:
    """Otherwise a flood would keep it waiting, and its numbers would be missed for as long."""
    producer.publish([a_usage() for _ in range(2)])
    first = claimed(producer, most=2)
    producer.publish([a_usage() for _ in range(3)])
    # As a producer whose clock is behind writes it.
    producer.run("update outbox set created_at = now() - interval '1 hour' where sequence is null")
    outbox.release(producer.engine, first)
    assert claimed(producer, most=2) == first


def test_the_stream_that_waits_longest_is_sent_first(producer: Herald) -> None:
    producer.publish([a_usage()], tier="pro")
    producer.publish([a_usage()])
    assert list(outbox.waiting_streams(producer.engine, most=9)) == [PRO, FREE]
    producer.run(
        "update outbox set created_at = now() - interval '1 hour' where stream = :stream",
        stream=FREE,
    )
    assert list(outbox.waiting_streams(producer.engine, most=9)) == [FREE, PRO]


def test_what_one_relay_has_is_nothing_to_another_until_its_lease_is_over(
    producer: Herald,
) -> None:
    producer.publish([a_usage() for _ in range(3)])
    batch = claimed(producer, most=2)
    assert outbox.waiting_streams(producer.engine, most=9) == {FREE: 1}
    assert [event.sequence for event in claimed(producer).events] == [3]
    assert outbox.waiting_streams(producer.engine, most=9) == {}
    assert outbox.claim(producer.engine, FREE, most=9, lease=LEASE) is None
    outbox.release(producer.engine, batch)
    assert outbox.waiting_streams(producer.engine, most=9) == {FREE: 2}
    assert claimed(producer) == batch


class _NoQueue(Publisher):
    """Finds no queue for anything, and remembers for what one was asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, bool] = {}

    def send(self, stream: str, type_: str, batch: Mapping[str, Any], *, routed: bool) -> None:
        self.asked[stream] = routed
        if routed:
            raise Unroutable(stream)


def test_what_has_no_queue_is_left_alone_for_a_while(
    producer: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, clock = _NoQueue(), StoppedTime()
    monkeypatch.setattr(stuck_streams, "time", clock)
    relay = Relay("herald", producer.engine, publisher)
    producer.publish([a_usage()])
    assert relay.run_once() == 0
    assert publisher.asked.pop(FREE)
    # Nor is what came later sent before it.
    producer.publish([a_usage()])
    assert relay.run_once() == 0
    assert (publisher.asked, producer.waiting()) == ({}, 2)
    clock.now += 5
    assert relay.run_once() == 0
    assert publisher.asked == {FREE: True}


def test_what_a_newer_release_wrote_is_kept_until_somebody_takes_it(producer: Herald) -> None:
    """A relay that does not know an event can't know either that nobody needs it."""
    publisher = _NoQueue()
    producer.publish([UserRegistered(user_id=uuid7())])
    producer.run(
        "insert into outbox (event_id, stream, envelope)"
        " values (gen_random_uuid(), 'user.of_tomorrow.free', '{}')"
    )
    assert Relay("herald", producer.engine, publisher).run_due() == 1
    assert publisher.asked == {"user.registered.free": False, "user.of_tomorrow.free": True}
    assert producer.waiting() == 1
