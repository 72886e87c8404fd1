"""What must exist before a service's processes start: `python -m shared.messaging.prepare chat`.

Its tables at the newest revision, and its queues, so that a fact published before its listener's
first start is kept. Safe to run twice, and at the same time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib import import_module

import structlog
from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError
from pydantic import Field
from sqlalchemy.exc import OperationalError as DatabaseError
from sqlalchemy.exc import SQLAlchemyError

from shared.db.migrations import upgrade
from shared.messaging.export_queue import ExportQueue, ExportQueueAway
from shared.messaging.queues import declare_queues
from shared.settings import (
    BrokerUrl,
    DatabaseUrl,
    EnvironmentSettings,
    LogLevel,
    report_unknown_settings,
    service_database_url,
    stop_with_sentence,
)
from shared.telemetry.logging import configure_logging

log = structlog.get_logger(__name__)

# RabbitMQ listens before its cluster is formed, and fails what it is asked until then.
_BROKER_TROUBLE = (OperationalError, AMQPError, OSError, ExportQueueAway)

_PAUSE_SECONDS = 1.0
_TOLD_SECONDS = 10.0


class PrepareSettings(EnvironmentSettings):
    """Where what is prepared lies."""

    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL")
    broker_url: BrokerUrl = Field(validation_alias="BROKER_URL")
    log_level: LogLevel = Field("info", validation_alias="LOG_LEVEL")
    # Billing's alone.
    export_queue: bool = Field(False, validation_alias="BILLING_EXPORT_QUEUE")
    export_queue_most_messages: int = Field(
        100_000, validation_alias="BILLING_EXPORT_QUEUE_MOST_MESSAGES", ge=100, le=10_000_000
    )
    # A first start on a slow disk takes its time, and under compose nobody tries again.
    patience_seconds: float = Field(300, validation_alias="PREPARE_PATIENCE_SECONDS", ge=0, le=3600)


def prepare(
    service: str,
    database_url: str,
    broker_url: str,
    patience_seconds: float,
    export_queue: ExportQueue | None = None,
) -> None:
    """Migrate the service's database and declare its queues; each engine is waited for so long.
    `export_queue` is for readers outside, who have their copies from the first message on.

    Raises SQLAlchemyError, kombu's OperationalError, AMQPError, OSError or ExportQueueAway when an
    engine can't be used.
    """
    url = service_database_url(database_url, service)
    _patiently("database", (DatabaseError,), lambda: upgrade(service, url), patience_seconds)
    listen = import_module(f"services.{service}.tasks").listen

    def declare() -> None:
        declare_queues(listen, broker_url)
        if export_queue is not None:
            export_queue.bind()

    _patiently("broker", _BROKER_TROUBLE, declare, patience_seconds)


def _patiently(
    what: str, failures: tuple[type[Exception], ...], do: Callable[[], None], seconds: float
) -> None:
    """Do it, again and again until an engine lets us; what it waits for is told when that changes,
    and now and then."""
    gives_up_at = time.monotonic() + seconds
    told, tells_again_at = "", 0.0
    while True:
        try:
            return do()
        except failures as error:
            now, reason = time.monotonic(), _reason_of(error)
            if now >= gives_up_at:
                raise
            if reason != told or now >= tells_again_at:
                left = round(gives_up_at - now)
                log.warning("prepare_waits", waits_for=what, reason=reason, seconds_left=left)
                told, tells_again_at = reason, now + _TOLD_SECONDS
            time.sleep(_PAUSE_SECONDS)


def _reason_of(error: Exception) -> str:
    """In one line, and without anything of a URL: what the server or the system said."""
    said = str(getattr(error, "orig", None) or "").strip()
    if said:
        return said.splitlines()[0]
    cause = error.__cause__ if isinstance(error, OperationalError) else error
    told = cause.strerror if isinstance(cause, OSError) else ""
    return told or type(cause or error).__name__


def _export_queue(service: str, settings: PrepareSettings) -> ExportQueue | None:
    if service != "billing" or not settings.export_queue:
        return None
    broker_url = settings.broker_url.get_secret_value()
    return ExportQueue(broker_url, most_messages=settings.export_queue_most_messages)


def main() -> None:
    """Parse the command line and prepare; exit code 1 says what stood in the way."""
    parser = argparse.ArgumentParser(prog="python -m shared.messaging.prepare")
    parser.add_argument("service")
    service = parser.parse_args().service
    with stop_with_sentence():
        settings = PrepareSettings.from_environment()
    configure_logging(f"{service}-prepare", settings.log_level)
    report_unknown_settings()
    try:
        prepare(
            service,
            settings.database_url.get_secret_value(),
            settings.broker_url.get_secret_value(),
            settings.patience_seconds,
            _export_queue(service, settings),
        )
    except (SQLAlchemyError, *_BROKER_TROUBLE) as error:
        log.error("not_prepared", service=service, reason=_reason_of(error))
        sys.exit(1)
    log.info("prepared", service=service)


if __name__ == "__main__":
    main()
