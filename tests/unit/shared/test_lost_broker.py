"""A worker whose broker goes away at the moment of an acknowledgement connects anew; one whose beat
is gone ends; and one whose database is gone gives back what it can't put aside."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state
from kombu import Message
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.messaging import unreadable
from shared.messaging.unreadable import CarefulConsumer, PutAsideOnValkey


class Channel:
    """Of a broker that is there, or that is gone."""

    no_ack_consumers: frozenset[str] = frozenset()

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.acknowledged: list[str] = []
        self.given_back: list[str] = []

    def message_to_python(self, message: Message) -> Message:
        return message

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        if self.failure is not None:
            raise self.failure
        self.acknowledged.append(delivery_tag)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        assert requeue, "or Valkey would delete it"
        self.given_back.append(delivery_tag)


def consumer_on(channel: Channel | None) -> Any:
    """A consumer of messages as it is while it listens on a channel."""
    consumer = CarefulConsumer.__new__(CarefulConsumer)
    listening = type("Listening", (), {"channel": channel})()
    consumer.task_consumer = listening if channel is not None else None
    return consumer


def acknowledge(consumer: Any, channel: Channel) -> None:
    message = Message(body="[[], {}, {}]", delivery_tag="7", channel=channel)
    consumer._acknowledge(message, None, (RedisConnectionError,))


def test_a_message_is_acknowledged() -> None:
    channel = Channel()
    acknowledge(consumer_on(channel), channel)
    assert channel.acknowledged == ["7"]


def test_a_broker_that_is_gone_is_no_secret() -> None:
    channel = Channel(RedisConnectionError("gone"))
    with pytest.raises(RedisConnectionError):
        acknowledge(consumer_on(channel), channel)


@pytest.mark.parametrize("present", [Channel(), None])
def test_a_message_of_an_earlier_connection_does_not_end_this_one(present: Channel | None) -> None:
    acknowledge(consumer_on(present), Channel(RedisConnectionError("gone")))


def test_any_other_failure_is_not_hidden() -> None:
    channel = Channel(ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        acknowledge(consumer_on(Channel()), channel)


@pytest.mark.parametrize(
    ("exit_code", "ends"), [(None, False), (0, True), (-9, True)], ids=["alive", "ended", "killed"]
)
def test_a_worker_does_not_go_on_without_its_beat(
    exit_code: int | None, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "should_stop", None)
    consumer = consumer_on(None)
    consumer.controller = SimpleNamespace(beat=SimpleNamespace(exitcode=exit_code))
    consumer._end_without_beat()
    assert bool(state.should_stop) is ends


def test_a_worker_that_never_had_a_beat_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "should_stop", None)
    consumer = consumer_on(None)
    consumer.controller = SimpleNamespace(beat=None)
    consumer._end_without_beat()
    assert not state.should_stop


def test_what_cannot_be_read_waits_for_a_database_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unreadable, "_PAUSE_SECONDS", 0)
    channel = Channel()
    message = Message(body="?", delivery_tag="7", channel=channel)
    PutAsideOnValkey("postgresql://nobody:none@127.0.0.1:1/none")(message, "no_task")
    assert (channel.acknowledged, channel.given_back) == ([], ["7"])
