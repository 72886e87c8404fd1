"""Whether a process does its work, which is more than that it runs."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from pathlib import Path

from deploy.companion.ports import LOOPBACK

Probe = Callable[[], bool]


def http_status(port: int, path: str, *, timeout_seconds: float = 2) -> int | None:
    """The status of an answer, or None when nobody answers."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def answers(port: int, path: str) -> Probe:
    """Ready as soon as this path answers 200."""
    return lambda: http_status(port, path) == 200


def listens(port: int) -> Probe:
    """Ready as soon as connections are taken."""

    def probe() -> bool:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError:
            return False
        return True

    return probe


RENEWED_WITHIN_SECONDS = 30.0
"""A process without a port renews its file every ten seconds or sooner while it does its work."""


def says_so(file: Path, *, since: float = 0, still: bool = False) -> Probe:
    """Ready as soon as the process has made its file; one from before `since` is not its own.
    `still`: and for as long as it renews it, which one that hangs does not."""

    def probe() -> bool:
        try:
            renewed = file.stat().st_mtime
        except OSError:
            return False
        is_late = still and time.time() - renewed > RENEWED_WITHIN_SECONDS
        return renewed >= since and not is_late

    return probe


def always() -> bool:
    """For a program of which nothing more is known."""
    return True
