"""Structured logs: one JSON object a line, facts with fields, secrets redacted."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from shared.events.base import current_request_id, current_traceparent
from shared.lenient_json import to_json
from shared.telemetry.redaction import redact


def configure_logging(service: str, level: str = "info") -> None:
    """Send structlog's and the standard library's records to stdout as JSON lines.

    Below `info` only our own are written, whatever the level: there libraries tell what they send
    and get, keys and passwords included, which `redact` can't know by their form.
    """
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Context(service),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *processors,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _set_up_loggers(_handler(processors), logging.getLevelNamesMapping()[level.upper()])


def _handler(processors: list[Any]) -> logging.Handler:
    """Writes the records of both kinds; the standard library's go through `processors` first."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_to_json),
            ],
        )
    )
    # A library may also lower its own level.
    handler.addFilter(_may_be_told)
    return handler


def _set_up_loggers(handler: logging.Handler, chosen: int) -> None:
    """Have all of them write by this handler and no other, ours from the chosen level on."""
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(chosen, logging.INFO))
    for name in _OURS:
        logging.getLogger(name).setLevel(chosen)
    for name in _WITH_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # Celery's pool tells on it, and on no other, of a child that died; it takes it off the root.
    children = logging.getLogger("multiprocessing")
    children.handlers, children.propagate = [handler], False
    children.setLevel(logging.ERROR)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


_OURS = ("services", "shared", "deploy")
_WITH_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "kombu", "alembic")
# These write URLs with their query, or a line per request or message beside our own;
# uvicorn.error does so for sockets.
_TALKATIVE = (
    "httpx",
    "httpcore",
    "uvicorn.access",
    "uvicorn.error",
    "asyncio",
    "celery.worker.strategy",
    "celery.app.trace",
)

# Set by the processors above and nobody else, hence not searched for secrets in every line. The
# first two are ProcessorFormatter's: it keeps the original record there until it renders.
_OUR_OWN = ("_record", "_from_structlog", "timestamp", "level", "logger", "service", "traceparent")


def _may_be_told(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or record.name.partition(".")[0] in _OURS


class _Context:
    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["service"] = self._service
        request_id = current_request_id.get()
        if request_id is not None:
            event.setdefault("request_id", request_id)
        traceparent = current_traceparent.get()
        if traceparent is not None:
            event.setdefault("traceparent", traceparent)
        return event


def _redact(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    kept = {name: event.pop(name) for name in _OUR_OWN if name in event}
    clean: MutableMapping[str, Any] = redact(event)
    clean.update(kept)
    return clean


def _to_json(value: Any, **_options: Any) -> str:
    return to_json(value).decode()
