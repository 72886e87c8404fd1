"""Where Celery's consumer would lose something: messages that no task can be made of, and a worker
that does not notice that its broker went away."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu import Message
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.db.engine import sync_engine

log = structlog.get_logger(__name__)

PutAside = Callable[[Message, str], None]

_STORE = text("""
insert into dead_event (task, reason, body)
values (:task, :reason, jsonb_build_object('headers', :headers, 'body', :body))
""")
_PAUSE_SECONDS = 1.0


class CarefulConsumer(CeleryConsumer):
    """Celery's consumer of messages, with a place for the unreadable ones.

    It reads each body before a child gets it: a failure there would look like the task's own.
    """

    put_aside: ClassVar[PutAside]
    task_consumer: Any  # Celery sets it while it is connected

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Message], Any]:
        handle = super().create_task_handler(*arguments, **options)

        def read_first(message: Message) -> Any:
            if _is_readable(message):
                vars(message)["ack_log_error"] = partial(self._acknowledge, message)
                return handle(message)
            return self._put_aside(message, "undecodable")

        return read_first

    def on_decode_error(self, message: Message, _error: Exception) -> None:
        self._put_aside(message, "undecodable")

    def on_unknown_message(self, _body: Any, message: Message) -> None:
        self._put_aside(message, "no_task")

    def on_unknown_task(self, _body: Any, message: Message, _error: Exception) -> None:
        self._put_aside(message, "unknown_task")

    def on_invalid_task(self, _body: Any, message: Message, _error: Exception) -> None:
        self._put_aside(message, "invalid_task")

    def _acknowledge(
        self, message: Message, _logger: Any, errors: Any, multiple: bool = False
    ) -> None:
        """Acknowledge, and let the loop see when that fails: it then connects anew.

        Celery's own way only logs it. With Valkey as broker the connection that tells of the
        broker's end may be gone by then, and the worker would wait for messages for ever.
        """
        try:
            message.ack(multiple=multiple)
        except errors as error:
            log.warning("message_not_acknowledged", reason=type(error).__name__)
            # One of an earlier connection comes again anyhow; that is no reason to leave this one.
            if self.task_consumer is not None and message.channel is self.task_consumer.channel:
                raise

    def _put_aside(self, message: Message, reason: str) -> None:
        log.error("message_unreadable", task=_task_of(message), reason=reason)
        type(self).put_aside(message, reason)


def careful_consumer(put_aside: PutAside) -> type[CarefulConsumer]:
    """The class for Celery's setting `worker_consumer`."""
    return type("CarefulConsumer", (CarefulConsumer,), {"put_aside": staticmethod(put_aside)})


def put_aside_on_rabbitmq(message: Message, _reason: str) -> None:
    """Reject it: the broker moves it to the queue's dead letters."""
    message.reject()


class PutAsideOnValkey:
    """Store it as a dead event before it is acknowledged, since Valkey would delete it.

    Runs in the worker's parent process, so it keeps no connection that children could inherit.
    """

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url

    def __call__(self, message: Message, reason: str) -> None:
        try:
            self._store(message, reason)
        except SQLAlchemyError as error:
            log.warning("message_waits", reason=type(error).__name__)
            time.sleep(_PAUSE_SECONDS)
            message.requeue()
        else:
            message.ack()

    def _store(self, message: Message, reason: str) -> None:
        # As Python writes it: jsonb can't hold every text, but the escapes of any.
        values = {
            "task": _task_of(message),
            "reason": reason,
            "headers": ascii(message.headers),
            "body": ascii(message.body),
        }
        engine = sync_engine(self._database_url)
        try:
            with engine.begin() as connection:
                connection.execute(_STORE, values)
        finally:
            engine.dispose()


def _is_readable(message: Message) -> bool:
    try:
        arguments, named, _embedded = message.decode()
    except Exception:
        return False
    return isinstance(arguments, list) and isinstance(named, dict)


def _task_of(message: Message) -> str:
    headers = message.headers if isinstance(message.headers, dict) else {}
    return ascii(headers.get("task"))[1:-1][:200]
