"""From outbox to effect over both brokers: nothing lost, nothing doubled, nobody held up."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zlib
from uuid import uuid4

import kombu
import pytest

from shared.events.usage import UsageRecorded
from shared.events.user import UserRegistered
from shared.ids import uuid7
from shared.messaging import batch as batches
from shared.messaging.broker import events_exchange
from shared.messaging.packed import METHOD, Packed
from shared.messaging.publisher import Unroutable
from shared.messaging.queues import declare_queues
from tests.support.event_service.brokers import Broker
from tests.support.event_service.tasks import listen_as
from tests.support.event_service.world import (
    Herald,
    Scribe,
    a_usage,
    assert_each_once,
    eventually,
)

FREE = "usage.recorded.free"


def usages(count: int, *, model: str = "plain") -> list[UsageRecorded]:
    return [a_usage(model=model) for _ in range(count)]


def test_every_event_takes_effect_exactly_once(herald: Herald, workers: Scribe) -> None:
    herald.publish(usages(1100))
    herald.publish(usages(30), tier="enterprise")
    herald.drain()
    assert_each_once(herald, workers)
    assert herald.sequences(FREE) == list(range(1, 1101))
    assert herald.sequences("usage.recorded.enterprise") == list(range(1, 31))


def test_a_long_batch_travels_packed_and_any_kombu_unpacks_it(
    herald: Herald, broker: Broker
) -> None:
    stream = f"usage.recorded.{uuid4().hex}"
    publisher = herald.publisher()
    with kombu.Connection(broker.url) as connection:
        queue = kombu.Queue(stream, events_exchange(), routing_key=stream)
        bound = queue(connection.default_channel)
        bound.declare()
        for count, told in (1, None), (200, METHOD):
            events = [{"producerseq": number, "data": "é" * 100} for number in range(count)]
            wire = batches.to_wire("herald", uuid4(), events)
            publisher.send(stream, "usage.recorded", wire, routed=True)
            message = bound.get(no_ack=True, accept=["json"])
            assert message is not None
            assert message.headers.get("compression") == told
            assert message.decode()[:2] == [[], {"batch": wire}]


def test_two_relays_on_one_outbox_send_each_event_once(herald: Herald, workers: Scribe) -> None:
    for _ in range(4):
        herald.publish(usages(500))
    helpers = [threading.Thread(target=herald.drain) for _ in range(2)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
    assert_each_once(herald, workers)
    assert herald.sequences(FREE) == list(range(1, 2001))
    assert max(workers.deliveries(herald.sent()).values()) == 1


@pytest.mark.parametrize("point", ["claimed", "published"])
def test_a_relay_killed_half_way_loses_and_doubles_nothing(
    herald: Herald, workers: Scribe, point: str
) -> None:
    ids = herald.publish(usages(550))
    words = ["-m", "tests.support.event_service.crashing_relay"]
    crashed = subprocess.run(
        [sys.executable, *words, point, herald.url, herald.broker_url], check=False
    )
    assert crashed.returncode == -9
    assert herald.waiting() == 550
    # While the dead relay's lease holds, another sends only what that one had not claimed.
    assert herald.relay().run_once() == 50
    herald.expire_leases()
    herald.drain()
    assert_each_once(herald, workers)
    assert herald.sequences(FREE) == list(range(1, 551))
    if point == "published":
        arrived_twice = {id_ for id_, n in workers.deliveries(ids).items() if n == 2}
        eventually(
            lambda: sum(n == 2 for n in workers.deliveries(ids).values()) == 500,
            f"the batch arrives a second time, of which {len(arrived_twice)} have",
        )
        assert_each_once(herald, workers)


def test_a_stream_without_a_queue_waits_and_holds_up_no_other(
    herald: Herald, workers: Scribe
) -> None:
    stranded = herald.publish(usages(3), tier="platinum")
    relay = herald.relay()
    assert relay.run_once() == 0
    herald.publish(usages(5))
    assert relay.run_once() == 5
    assert {row.event_id for row in herald.rows("select event_id from outbox")} == set(stranded)
    herald.run("delete from outbox")
    assert_each_once(herald, workers)


def test_a_stream_is_sent_once_a_queue_is_bound_to_it(herald: Herald, broker: Broker) -> None:
    stream = f"usage.recorded.{uuid4().hex}"
    publisher = herald.publisher()
    wire = batches.to_wire("herald", uuid4(), [{"producerseq": 1}])
    with pytest.raises(Unroutable):
        publisher.send(stream, "usage.recorded", wire, routed=True)
    with kombu.Connection(broker.url) as connection:
        queue = kombu.Queue(stream, events_exchange(), routing_key=stream)
        bound = queue(connection.default_channel)
        bound.declare()
        publisher.send(stream, "usage.recorded", wire, routed=True)
        assert bound.get(no_ack=True) is not None
        bound.delete()


def test_what_was_put_aside_is_sent_to_its_own_queue_or_to_nobody(
    herald: Herald, workers: Scribe
) -> None:
    ids = herald.publish(usages(2))
    envelopes = [row.envelope for row in herald.rows("select envelope from outbox")]
    herald.run("delete from outbox")
    wire = batches.to_wire("herald", uuid4(), [{"producerseq": None, **one} for one in envelopes])
    publisher = herald.publisher()
    # Of a tier that is no more, or of a service that was never prepared.
    for queue in ("scribe.usage.platinum", "nobody.usage.free"):
        with pytest.raises(Unroutable):
            publisher.send_to_queue(queue, "usage.recorded", wire)
    publisher.send_to_queue("scribe.usage.free", "usage.recorded", wire)
    eventually(lambda: len(workers.effects(ids)) == 2, "they take effect")
    assert workers.deliveries(ids) == dict.fromkeys(ids, 1)


def test_a_fact_that_nobody_needs_yet_is_sent_all_the_same(herald: Herald, scribe: Scribe) -> None:
    herald.publish([UserRegistered(user_id=uuid4())])
    assert herald.relay().run_once() == 1
    assert herald.waiting() == 0


def test_declaring_the_queues_again_changes_nothing(
    herald: Herald, workers: Scribe, broker: Broker
) -> None:
    declare_queues(listen_as("scribe"), broker.url)
    declare_queues(listen_as("scribe"), broker.url)
    ids = herald.publish(usages(3))
    herald.drain()
    assert_each_once(herald, workers)
    assert workers.deliveries(ids) == dict.fromkeys(ids, 1)


def test_a_poisonous_event_does_not_take_its_batch_with_it(herald: Herald, workers: Scribe) -> None:
    herald.publish(usages(199))
    ids = herald.publish([a_usage(model="poison")])
    poisonous = herald.rows(
        "select event_id from outbox where envelope->'data'->>'model' = 'poison'"
    )[0].event_id
    assert len(ids) == 200
    herald.drain()
    assert_each_once(herald, workers, but=[poisonous])
    eventually(lambda: _reason_of(workers, poisonous), "the poisonous event is put aside")
    assert _reason_of(workers, poisonous) == "handler_failed: ValueError"
    assert workers.effects([poisonous]) == {}


def test_a_declined_event_is_put_aside_at_once(herald: Herald, workers: Scribe) -> None:
    [declined] = herald.publish([a_usage(model="declined")])
    herald.drain()
    eventually(lambda: _reason_of(workers, declined), "the declined event is put aside")
    assert _reason_of(workers, declined) == "handler_failed: Declined"
    assert workers.deliveries([declined]) == {declined: 1}


def test_an_event_of_an_unknown_type_is_put_aside_and_the_others_handled(
    herald: Herald, workers: Scribe
) -> None:
    herald.publish(usages(5))
    unknown = herald.rows("select event_id from outbox limit 1")[0].event_id
    herald.run(
        'update outbox set envelope = envelope || \'{"type": "usage.unheard"}\' '
        "where event_id = :id",
        id=unknown,
    )
    herald.drain()
    assert_each_once(herald, workers, but=[unknown])
    eventually(lambda: _reason_of(workers, unknown), "the unknown event is put aside")
    assert _reason_of(workers, unknown) == "unreadable_event: unknown type"


def test_a_batch_that_was_changed_on_its_way_is_put_aside_whole(
    herald: Herald, workers: Scribe
) -> None:
    wire = batches.to_wire("herald", uuid4(), [{"producerseq": 1}])
    wire["events"] = [{"producerseq": 2}]
    before = len(workers.dead())
    herald.publisher().send(FREE, "usage.recorded", wire, routed=True)
    eventually(lambda: len(workers.dead()) == before + 1, "the batch is put aside")
    dead = workers.dead()[-1]
    assert dead.reason == "unreadable_batch: the hash does not fit"
    assert dead.body == wire


@pytest.mark.parametrize(
    ("task", "body", "reason"),
    [
        ("usage.recorded", '{"batch": ', "undecodable"),
        ("usage.recorded", Packed(zlib.compress(b'{"batch": ')), "undecodable"),
        ("usage.recorded", Packed(zlib.compress(b"[[], {}, {}]")[:-1]), "undecodable"),
        ("usage.forgotten", Packed(zlib.compress(b"[[], {}, {}]")), "unknown_task"),
        ("usage.forgotten", Packed(b"no zlib"), "undecodable"),
        ("usage.recorded", b"\xff\xfe\x00", "undecodable"),
        ("usage.recorded", '"a text"', "undecodable"),
        ("usage.recorded", '[[], ["no", "names"], {}]', "undecodable"),
        ("usage.forgotten", "[[], {}, {}]", "unknown_task"),
        (None, "[[], {}, {}]", "no_task"),
    ],
)
def test_a_message_that_no_task_can_be_made_of_is_kept(
    herald: Herald,
    workers: Scribe,
    broker: Broker,
    task: str | None,
    body: str | bytes,
    reason: str,
) -> None:
    kept_before = _kept(workers, broker)
    headers = {"id": str(uuid7()), "lang": "py", "argsrepr": "", "kwargsrepr": ""}
    if task is not None:
        headers["task"] = task
    if isinstance(body, Packed):
        headers["compression"] = METHOD
    broker.publish_raw(FREE, body, headers=headers)
    eventually(lambda: _kept(workers, broker) == kept_before + 1, "the message is kept")
    if not broker.is_rabbitmq:
        assert workers.dead()[-1].reason == reason
    # The worker is none the worse for it.
    herald.publish(usages(2))
    herald.drain()
    assert_each_once(herald, workers)


def test_a_flood_of_one_tier_does_not_delay_another(herald: Herald, workers: Scribe) -> None:
    with workers.closed_gate(f"gate:{uuid4()}") as gate:
        free = herald.publish(usages(1000, model=gate))
        herald.drain()
        eventually(lambda: workers.deliveries(free), "the free worker is busy")
        herald.publish(usages(20), tier="enterprise")
        herald.drain()
        urgent = sorted(set(herald.sent()) - set(free))
        eventually(lambda: len(workers.effects(urgent)) == 20, "enterprise is served", seconds=5)
        assert workers.effects(free) == {}
    assert_each_once(herald, workers)


def _reason_of(scribe: Scribe, event_id: object) -> str | None:
    reasons = [row.reason for row in scribe.dead() if row.body.get("id") == str(event_id)]
    assert len(reasons) <= 1
    return reasons[0] if reasons else None


def _kept(scribe: Scribe, broker: Broker) -> int:
    if broker.is_rabbitmq:
        return broker.dead_letters("scribe.usage.free")
    return len(scribe.dead())


# RabbitMQ keeps the message itself.
@pytest.mark.parametrize("broker", ["valkey"], indirect=True)
def test_the_body_of_a_kept_message_can_be_read_by_an_operator(
    workers: Scribe, broker: Broker
) -> None:
    before = len(workers.dead())
    broker.publish_raw(FREE, '{"nul": "\\u0000", ', headers={"task": "usage.recorded"})
    eventually(lambda: len(workers.dead()) == before + 1, "the message is kept")
    assert "nul" in json.dumps(workers.dead()[-1].body)
