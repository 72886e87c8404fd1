"""Wait until auth gives its keys: `python -m deploy.envoy.keys`, before a gateway starts.

Envoy says that it is ready without them too, where auth did not answer its first questions, and
refuses every token until it has them. One that runs keeps those that it has: a new one that took
its place while auth is away would shut out everybody. Whom it waits for, and why, is said when that
changes.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from http import HTTPStatus
from types import FrameType

from deploy.envoy.endpoints import ConfigurationRefused, Endpoint, required
from shared.settings.refused import EXIT_CODE

_PATH = "/.well-known/jwks.json"
_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 1.0


def lacking(auth: Endpoint) -> str:
    """Why it gives no keys just now; empty where it does."""
    connection = http.client.HTTPConnection(auth.host, auth.port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", _PATH)
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            return f"it answers {answer.status}"
        return _lacking_in(answer.read())
    except OSError as error:
        return str(error)
    except (http.client.HTTPException, UnicodeError) as error:
        return type(error).__name__
    finally:
        connection.close()


def _lacking_in(body: bytes) -> str:
    try:
        return "" if json.loads(body)["keys"] else "it has none"
    except (ValueError, KeyError, TypeError):
        return "its answer holds none"


def main(environ: Mapping[str, str] = os.environ, *, pause_seconds: float = _PAUSE_SECONDS) -> int:
    """Return once it has, however long that takes; who waits for us has others that serve."""
    try:
        auth = required(environ, "GATEWAY_AUTH")
    except ConfigurationRefused as refused:
        print(f"configuration refused: {refused}", file=sys.stderr)
        return EXIT_CODE
    told = ""
    while reason := lacking(auth):
        if reason != told:
            print(f"waiting for the keys of {auth}: {reason}", file=sys.stderr, flush=True)
            told = reason
        time.sleep(pause_seconds)
    return 0


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it does not handle: its pod
    # would stay for as long as Envoy may take to finish its streams.
    signal.signal(signal.SIGTERM, _end)
    raise SystemExit(main())
