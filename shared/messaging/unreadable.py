"""Where Celery's consumer would lose something: messages that no task can be made of, and a worker
that does not notice that its broker went away. And where it would not rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import structlog
from celery.platforms import EX_FAILURE
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu import Message

from shared.messaging.batch import UnreadableBody
from shared.messaging.packed import Packed, unpacked
from shared.messaging.resting import SignalPipe, let_rest, stop_waiting
from shared.messaging.unread import leave_unread

log = structlog.get_logger(__name__)

PutAside = Callable[[Message, str], None]

_STORE = """
insert into dead_event (task, reason, body)
values (:task, :reason, jsonb_build_object('headers', :headers, 'body', :body))
"""
_PAUSE_SECONDS = 1.0
_LOOK_AROUND_SECONDS = 5.0


class CarefulConsumer(CeleryConsumer):
    """Celery's consumer of messages, with a place for the unreadable ones.

    It reads each body before a child gets it: a failure there would look like the task's own. Only
    the bodies of `left_unread` are read by the child alone, which puts aside what it can't read.
    """

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[valid-type, misc]  # stubs
        """Without the means to send for later on RabbitMQ: we never do, and each worker would make
        28 exchanges and quorum queues for it, which belong to no service."""

        default_steps: ClassVar[list[str]] = [
            step
            for step in CeleryConsumer.Blueprint.default_steps
            if not step.endswith(":DelayedDelivery")
        ]

    put_aside: ClassVar[PutAside]
    left_unread: ClassVar[frozenset[str]]
    ready_file: ClassVar[Path | None]
    task_consumer: Any  # Celery sets these while it is connected
    connection: Any
    controller: Any
    _signals: ClassVar[SignalPipe] = SignalPipe()

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        self._signals.wake(hub)
        let_rest(self.connection)
        hub.call_repeatedly(_LOOK_AROUND_SECONDS, self._look_around)

    def _look_around(self) -> None:
        # Renewed only while connected: whoever probes it sees a worker that waits for its broker.
        if self.ready_file is not None:
            self.ready_file.touch()
        self._end_without_beat()

    def _end_without_beat(self) -> None:
        """A worker whose beat has died would go on without the clock; its supervisor starts both
        again."""
        beat = self.controller.beat
        if beat is not None and beat.exitcode is not None and not state.should_stop:
            log.error("beat_died", exit_code=beat.exitcode)
            # Its type is that of its first value, None.
            state.should_stop = EX_FAILURE  # type: ignore[assignment]

    def shutdown(self) -> None:
        if self.connection is not None:
            stop_waiting(self.connection)
        super().shutdown()

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Message], Any]:
        handle = super().create_task_handler(*arguments, **options)

        def read_first(message: Message) -> Any:
            if self._may_stay_unread(message):
                leave_unread(message)
            else:
                _unpack(message)
            if _is_readable(message):
                vars(message)["ack_log_error"] = partial(self._acknowledge, message)
                return handle(message)
            return self._put_aside(message, "undecodable")

        return read_first

    def _may_stay_unread(self, message: Message) -> bool:
        """Not when it is sent again by a worker: what that was given would be wrapped once more."""
        headers = message.headers if isinstance(message.headers, dict) else {}
        return (
            bool(message.body)
            and message.content_type == "application/json"
            and headers.get("task") in self.left_unread
            and isinstance(headers.get("id"), str)
            and not headers.get("retries")
        )

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


def careful_consumer(
    put_aside: PutAside, left_unread: Collection[str] = (), ready_file: Path | None = None
) -> type[CarefulConsumer]:
    """The class for Celery's setting `worker_consumer`; `left_unread` are names of tasks. The file
    is renewed for as long as the worker is connected."""
    own = {
        "put_aside": staticmethod(put_aside),
        "left_unread": frozenset(left_unread),
        "ready_file": ready_file,
    }
    return type("CarefulConsumer", (CarefulConsumer,), own)


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
        # Here and not above: hardly a worker ever meets such a message, and each starts without it.
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._store(message, reason)
        except SQLAlchemyError as error:
            log.warning("message_waits", reason=type(error).__name__)
            time.sleep(_PAUSE_SECONDS)
            message.requeue()
        else:
            message.ack()

    def _store(self, message: Message, reason: str) -> None:
        from sqlalchemy import text

        from shared.db.engine import sync_engine

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
                connection.execute(text(_STORE), values)
        finally:
            engine.dispose()


def _unpack(message: Any) -> None:
    if isinstance(message.body, Packed):
        # What can't be unpacked is put aside as it came, since nothing reads it.
        with suppress(UnreadableBody):
            message.body = unpacked(message.body)


def _is_readable(message: Message) -> bool:
    try:
        arguments, named, _embedded = message.decode()
    except Exception:
        return False
    return isinstance(arguments, list) and isinstance(named, dict)


def _task_of(message: Message) -> str:
    headers = message.headers if isinstance(message.headers, dict) else {}
    return ascii(headers.get("task"))[1:-1][:200]
