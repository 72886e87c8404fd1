"""What differs between the two brokers, in one place, chosen by the URL alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kombu import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from shared.messaging.resting import SECONDS_BETWEEN_QUESTIONS
from shared.messaging.unread import CONTENT_TYPE

EXCHANGE_NAME = "companion.events"
DEAD_EXCHANGE_NAME = "companion.dead"
DELIVERY_LIMIT = 100

# For every connection to Valkey that this process opens. By name: who talks to RabbitMQ starts
# without Valkey's client, a tenth of what a relay would import.
TRANSPORT_ALIASES.update(
    dict.fromkeys(("redis", "rediss"), "shared.messaging.lean_valkey:Transport")
)


def is_rabbitmq(broker_url: str) -> bool:
    """Whether the URL names an AMQP broker; the other kind is Valkey (or Redis)."""
    return urlsplit(broker_url).scheme.startswith(("amqp", "pyamqp"))


def events_exchange() -> Exchange:
    """The topic exchange that copies each event to every queue bound to its stream."""
    return Exchange(EXCHANGE_NAME, type="topic", durable=True)


def durable_queue(name: str, routing_keys: list[str], broker_url: str) -> Queue:
    """A consumer's queue, bound to the streams that it listens to."""
    from kombu import binding

    exchange = events_exchange()
    arguments = _quorum(name) if is_rabbitmq(broker_url) else {}
    bindings = [binding(exchange, routing_key=key) for key in routing_keys]
    queue = Queue(name, bindings=bindings, durable=True, queue_arguments=arguments)
    # Set afterwards, since bindings clear it. A queue that has no exchange of its own is given the
    # default one by Celery, which binds every queue of the service to its jobs.
    queue.exchange, queue.routing_key = exchange, routing_keys[0]
    return queue


def dead_queue(name: str) -> Queue:
    """Where RabbitMQ puts what a worker could not even read."""
    return Queue(
        f"{name}.dead",
        exchange=Exchange(DEAD_EXCHANGE_NAME, type="direct", durable=True),
        routing_key=name,
        durable=True,
        queue_arguments={"x-queue-type": "quorum"},
    )


def _quorum(name: str) -> dict[str, Any]:
    # at-least-once dead-lettering needs reject-publish: with the default drop-head it silently
    # falls back to at-most-once (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_EXCHANGE_NAME,
        "x-dead-letter-routing-key": name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def transport_options(broker_url: str) -> Mapping[str, Any]:
    """kombu's options for the broker."""
    # A publisher gives up soon and says so; without these it would try for ever.
    patience = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}
    if is_rabbitmq(broker_url):
        return {**patience, "confirm_publish": True}
    return {
        **patience,
        # Every app on this Valkey must agree: the shortest one wins for all.
        "visibility_timeout": 300,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it gives messages back keeps all others from doing so for
        # as long; the usual is as long as a message stays away.
        "unacked_mutex_expire": 30,
        "socket_timeout": 30,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 25,
        # One list per queue, so that its length is the whole truth.
        "priority_steps": [0],
        "queue_order_strategy": "round_robin",
    }


def event_task_options(broker_url: str) -> Mapping[str, Any]:
    """How the task of an event meets trouble of its own process.

    On Valkey it is sent again for as long as it takes, since nothing else would keep the event. On
    RabbitMQ the broker itself delivers again, or moves it to the dead letters.
    """
    if is_rabbitmq(broker_url):
        return {}
    return {"autoretry_for": (Exception,), "max_retries": None, "default_retry_delay": 1}


# The clock gives a job again; one that failed needs no second life.
JOB_TASK_OPTIONS: Mapping[str, Any] = {
    "acks_on_failure": True,
    "reject_on_worker_lost": False,
    "retry_on_worker_lost": False,
}


def celery_settings(broker_url: str) -> Mapping[str, Any]:
    """Celery's settings for money on this broker; each differs from a default that loses or
    doubles messages (early ack, ack on failure, no confirms)."""
    rabbitmq = is_rabbitmq(broker_url)
    return {
        "broker_url": broker_url,
        "broker_transport_options": {
            **transport_options(broker_url),
            **({} if rabbitmq else {"polling_interval": SECONDS_BETWEEN_QUESTIONS}),
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # The other one is no form of a message, but how a worker hands one on to its children.
        "accept_content": ["json", CONTENT_TYPE],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        # Our handler stores what it can't handle as dead and only then returns, so a task that
        # raises is one whose process is in trouble. RabbitMQ dead-letters it. Valkey can't: there
        # the task is sent again (`celery_app`), and its first message acknowledged.
        "task_acks_on_failure": not rabbitmq,
        "task_acks_on_timeout": False,
        "task_reject_on_worker_lost": rabbitmq,
        "task_retry_on_worker_lost": not rabbitmq,
        "task_create_missing_queues": False,
        "task_default_queue_type": "quorum" if rabbitmq else "classic",
        "task_default_exchange_type": "topic",
        "task_default_exchange": EXCHANGE_NAME,
        # While a child has one batch its next one is there: nothing waits for the broker. What the
        # worker can't get to in time comes again, like what it was at work on. RabbitMQ counts for
        # each queue, of which a worker has several.
        "worker_prefetch_multiplier": 1 if rabbitmq else 2,
        "worker_disable_prefetch": False,
        "worker_detect_quorum_queues": True,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_soft_shutdown_timeout": 8,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_pool": "prefork",
        # A child opens its connections before it says that it is up. By the default of four seconds
        # it would be ended and begun anew, again and again, for as long as its machine is busy.
        "worker_proc_alive_timeout": 60.0,
        "timezone": "UTC",
        "enable_utc": True,
    }
