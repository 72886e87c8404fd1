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
from shared.messaging.celery_app import declare_queues
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

PATIENCE_SECONDS = 60.0
"""How long an engine that does not answer yet is waited for."""

# RabbitMQ listens before its cluster is formed, and fails what it is asked until then.
_BROKER_TROUBLE = (OperationalError, AMQPError, OSError)

_PAUSE_SECONDS = 1.0


class PrepareSettings(EnvironmentSettings):
    """Where what is prepared lies."""

    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL")
    broker_url: BrokerUrl = Field(validation_alias="BROKER_URL")
    log_level: LogLevel = Field("info", validation_alias="LOG_LEVEL")


def prepare(service: str, database_url: str, broker_url: str) -> None:
    """Migrate the service's database and declare its queues.

    Raises SQLAlchemyError, kombu's OperationalError, AMQPError or OSError when an engine can't be
    used.
    """
    url = service_database_url(database_url, service)
    _patiently("database", DatabaseError, lambda: upgrade(service, url))
    listen = import_module(f"services.{service}.tasks").listen
    _patiently("broker", _BROKER_TROUBLE, lambda: declare_queues(listen, broker_url))


def _patiently(
    what: str, failure: type[Exception] | tuple[type[Exception], ...], do: Callable[[], None]
) -> None:
    gives_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return do()
        except failure:
            if time.monotonic() >= gives_up_at:
                raise
            log.warning("prepare_waits", waits_for=what)
            time.sleep(_PAUSE_SECONDS)


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
        )
    except (SQLAlchemyError, *_BROKER_TROUBLE) as error:
        said = str(getattr(error, "orig", None) or "").strip()
        reason = said.splitlines()[0] if said else type(error).__name__
        log.error("not_prepared", service=service, reason=reason)
        sys.exit(1)
    log.info("prepared", service=service)


if __name__ == "__main__":
    main()
