"""Queues follow from what a service listens to and from the tiers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.log import Logging
from pydantic import SecretStr

from shared.events import Fact
from shared.events.key import KeyRevoked, KeyValidated
from shared.events.usage import UsageRecorded
from shared.messaging.broker import (
    DELIVERY_LIMIT,
    EXCHANGE_NAME,
    celery_settings,
    dead_queue,
    is_rabbitmq,
    transport_options,
)
from shared.messaging.celery_app import create_celery
from shared.messaging.subscriptions import Listen
from shared.messaging.unread import CONTENT_TYPE
from shared.settings import CommonSettings, SettingsRefused
from shared.tiers import TIERS

VALKEY, RABBITMQ = (
    "redis://:password@127.0.0.1:6379/1",
    "amqp://user:password@127.0.0.1:5672/events",
)
BROKERS = pytest.mark.parametrize("url", [VALKEY, RABBITMQ], ids=["valkey", "rabbitmq"])


async def handle(_facts: Sequence[Fact[Any]], _given: Any) -> None:
    """Does nothing."""


def listening() -> Listen:
    listen = Listen("chat")
    listen.to(KeyValidated, queue="keys")(handle)
    listen.to(KeyRevoked, queue="keys")(handle)
    listen.to(UsageRecorded, queue="usage")(handle)
    return listen


def bindings(url: str, listen: Listen) -> dict[str, set[str]]:
    return {
        queue.name: {binding.routing_key for binding in queue.bindings}
        for queue in listen.queues(url)
    }


@BROKERS
def test_each_tier_has_queues_of_its_own(url: str) -> None:
    found = bindings(url, listening())
    assert set(found) == {f"chat.{name}.{tier}" for name in ("keys", "usage") for tier in TIERS}
    assert found["chat.keys.pro"] == {"key.validated.pro", "key.revoked.pro"}
    assert found["chat.usage.free"] == {"usage.recorded.free"}


@BROKERS
def test_jobs_have_one_queue_without_a_tier(url: str) -> None:
    listen = listening()
    listen.every(timedelta(seconds=5))(tidy)
    assert bindings(url, listen)["chat.jobs"] == {"chat.jobs"}
    assert listen.jobs["chat.jobs.tidy"].every == timedelta(seconds=5)


async def tidy(_actions: Any) -> None:
    """Does nothing."""


def test_a_type_is_listened_to_once() -> None:
    listen = listening()
    with pytest.raises(ValueError, match=r"chat listens to key\.revoked twice"):
        listen.to(KeyRevoked, queue="other")(handle)


def settings_in(directory: Path, **parts: Any) -> CommonSettings:
    values: dict[str, Any] = {
        "database_url": SecretStr("postgresql://user:password@127.0.0.1:1"),
        "cache_url": SecretStr("redis://127.0.0.1:1"),
        "broker_url": SecretStr(VALKEY),
        "jwks_url": "http://127.0.0.1:1",
        "identity_key_file": directory,
        "identity_trust_file": directory,
        **parts,
    }
    return CommonSettings(**values)


def unwired(listen: Listen, settings: CommonSettings) -> Celery:
    return create_celery(listen, settings, lambda: pytest.fail("not wired before it works"))


@BROKERS
def test_celery_binds_a_queue_to_its_own_streams_alone(url: str, tmp_path: Path) -> None:
    listen = listening()
    listen.every(timedelta(seconds=5))(tidy)
    app = unwired(listen, settings_in(tmp_path, broker_url=SecretStr(url)))
    queues = app.amqp.queues
    assert len(queues) == 7
    for name, queue in queues.items():
        own = {binding.routing_key for binding in queue.bindings}
        # Celery gives a queue that lacks them its defaults: then every queue would get the jobs.
        assert queue.exchange.name == EXCHANGE_NAME
        assert queue.routing_key in own
        assert ("chat.jobs" in own) == (name == "chat.jobs")
    assert {"key.revoked", "key.validated", "usage.recorded", "chat.jobs.tidy"} <= set(app.tasks)


def test_a_worker_takes_the_queues_of_a_tier_that_there_is(tmp_path: Path) -> None:
    def queues_of(tier: str) -> set[str]:
        app = unwired(listening(), settings_in(tmp_path, worker_tier=tier))
        return set(app.amqp.queues)

    for tier in TIERS:
        assert {name.rpartition(".")[2] for name in queues_of(tier)} == {tier}
    with pytest.raises(SettingsRefused, match=r"WORKER_TIER names no tier; there are: .*pro") as no:
        queues_of("gold")
    assert "gold" not in str(no.value)


def test_celerys_own_level_lets_no_library_tell_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LEVEL", "FILE", "FORMAT"):
        monkeypatch.setenv(f"_MP_FORK_LOG{name}_", "")
    monkeypatch.setattr(Logging, "_setup", False)
    app = unwired(listening(), settings_in(tmp_path, log_level="debug"))
    app.log.setup_logging_subsystem(loglevel="DEBUG")
    for name in ("", "kombu", "celery", "celery.task", "amqp", "redis"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG), name
    assert not any(
        isinstance(handler, logging.StreamHandler)
        for handler in logging.getLogger("celery.task").handlers
    ), "nor past our own handler"
    assert logging.getLogger("services.chat").isEnabledFor(logging.DEBUG)
    unwired(listening(), settings_in(tmp_path))


def test_the_broker_is_known_by_its_url() -> None:
    assert is_rabbitmq(RABBITMQ)
    assert is_rabbitmq("amqps://host")
    assert not is_rabbitmq(VALKEY)
    assert not is_rabbitmq("rediss://host")


def test_rabbitmqs_queues_lose_nothing() -> None:
    for queue in listening().queues(RABBITMQ):
        assert queue.durable
        assert queue.queue_arguments == {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "companion.dead",
            "x-dead-letter-routing-key": queue.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        dead = dead_queue(queue.name)
        assert (dead.name, dead.routing_key) == (f"{queue.name}.dead", queue.name)
        assert dead.exchange.name == "companion.dead"
        assert (dead.durable, dead.queue_arguments) == (True, {"x-queue-type": "quorum"})


@BROKERS
def test_no_message_is_lost_by_a_default(url: str) -> None:
    settings = celery_settings(url)
    assert settings["task_acks_late"] is True
    assert settings["task_acks_on_timeout"] is False
    assert settings["task_create_missing_queues"] is False
    assert settings["accept_content"] == ["json", CONTENT_TYPE]
    assert settings["broker_connection_max_retries"] is None
    assert settings["worker_enable_remote_control"] is False
    # One at work and one that waits for it: a worker that dies gives back no more.
    assert settings["worker_prefetch_multiplier"] == (1 if is_rabbitmq(url) else 2)
    # A lost process means another try: by the broker where it counts them, by Celery elsewhere.
    assert settings["task_reject_on_worker_lost"] is is_rabbitmq(url)
    assert settings["task_retry_on_worker_lost"] is not is_rabbitmq(url)
    assert settings["task_acks_on_failure"] is not is_rabbitmq(url)
    # A child that comes up slowly is waited for.
    assert settings["worker_proc_alive_timeout"] >= 30
    # A publisher must not try for ever.
    assert transport_options(url)["max_retries"] == 3


@BROKERS
def test_an_event_in_trouble_comes_again_and_a_job_waits_for_its_next_turn(
    url: str, tmp_path: Path
) -> None:
    listen = listening()
    listen.every(timedelta(seconds=5))(tidy)
    app = unwired(listen, settings_in(tmp_path, broker_url=SecretStr(url)))
    event: Any = app.tasks["usage.recorded"]
    if is_rabbitmq(url):
        # Sent again by a worker it would be another message, and the broker would count anew.
        assert not hasattr(event, "autoretry_for")
    else:
        # Its message is acknowledged then: with a last try the event would be gone.
        assert (event.autoretry_for, event.max_retries) == ((Exception,), None)
    job: Any = app.tasks["chat.jobs.tidy"]
    assert not hasattr(job, "autoretry_for")
    assert job.acks_on_failure is True
    assert (job.reject_on_worker_lost, job.retry_on_worker_lost) == (False, False)


def test_rabbitmq_confirms_and_valkey_waits_long_enough() -> None:
    assert transport_options(RABBITMQ)["confirm_publish"] is True
    options = transport_options(VALKEY)
    assert options["visibility_timeout"] == 300
    assert options["unacked_mutex_expire"] < options["visibility_timeout"]
    assert options["priority_steps"] == [0]
    assert options["socket_timeout"] is not None
