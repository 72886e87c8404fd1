"""The line that each request leaves, written past the logging libraries.

They cost some fifty microseconds a line, most of it for what this line never holds. It goes to the
same stream, in the same form and under the same level, and at once: no line waits in a buffer that
a crash would lose.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime

import orjson

from shared.telemetry.redaction import redact_text

_LOGGER = "door"
# Hexadecimal digits and dashes, as in a UUID, are no key of any shape that redaction knows.
_HARMLESS_ID = re.compile(r"[0-9a-f-]{8,64}\Z")


class RequestLog:
    """Writes `request` lines of a service."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._logger = logging.getLogger(_LOGGER)

    def write(
        self,
        *,
        method: str,
        route: str,
        status: int,
        seconds: float,
        request_id: str,
        traceparent: str,
    ) -> None:
        """`route` is a template of ours. Of what a client sent, the method is one that the server
        knows and the trace is hexadecimal; only the id could be somebody's key."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        line = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "event": "request",
            "level": "info",
            "logger": _LOGGER,
            "timestamp": datetime.now(UTC),
            "service": self._service,
            "request_id": request_id if _HARMLESS_ID.match(request_id) else redact_text(request_id),
            "traceparent": traceparent,
        }
        _write(orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE).decode())


def _write(line: str) -> None:
    # Where the handler of `configure_logging` writes too, so lines keep their order. Like that
    # handler, it lets a full disk or a reader that has gone cost a line and not a request.
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except (OSError, ValueError):
        return
