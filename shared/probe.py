"""Asks a container's process how it is: `python -I -S /app/shared/probe.py health|alive`.

`health`: does it do its work now? `alive`: can it still go on, be it that it waits for somebody?
The exit code answers.

Every container is asked again and again, each time by a new interpreter: so this is run as a file,
without site-packages, and imports next to nothing.
"""

import os
import socket
import sys
import time

INTERNAL_PORT, METRICS_PORT = 8001, 9000

ROLE_FILE = "/tmp/companion-role"  # noqa: S108 - the one place that a container may write to
READY_FILE = "/tmp/companion-ready"  # noqa: S108
STALE_SECONDS = 60.0
"""A process without a public port renews its file at least this often while it does its work."""

_PATIENCE_SECONDS = 3.0


def is_ready(role: str) -> bool:
    """Whether the container's process does its work now."""
    if role == "web":
        return _answers(INTERNAL_PORT, b"/readyz")
    try:
        renewed = os.stat(os.environ.get("READY_FILE") or READY_FILE).st_mtime
    except OSError:
        return False
    return time.time() - renewed < STALE_SECONDS


def is_alive(role: str) -> bool:
    """Whether the container's process can still go on."""
    if role == "web":
        return _answers(INTERNAL_PORT, b"/healthz")
    return _answers(int(os.environ.get("METRICS_PORT") or METRICS_PORT), b"/metrics")


def _answers(port: int, path: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) as connection:
            connection.sendall(b"GET %b HTTP/1.0\r\nhost: here\r\n\r\n" % path)
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


_QUESTIONS = {"health": is_ready, "alive": is_alive}


def _role_here() -> str:
    try:
        with open(ROLE_FILE, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def main(words: list[str]) -> None:
    """Answer one question by the exit code: 0 yes, 1 no, 2 for what is no question."""
    if len(words) != 1 or words[0] not in _QUESTIONS:
        sys.exit(2)
    sys.exit(0 if _QUESTIONS[words[0]](_role_here()) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
