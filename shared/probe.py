"""Asks a container's process how it is: `python -I -S /app/shared/probe.py health|alive [SECONDS]`.

`health`: does it do its work now? `alive`: can it still go on, be it that it waits for somebody?
The exit code answers. A process that was started less than SECONDS ago is waited for until then;
for an older one, and without SECONDS, the answer comes at once.

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
_LOOK_SECONDS = 0.25


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


def answer(question: str, young_seconds: float) -> bool:
    """Whether the answer is yes; while the process is younger than this, as soon as it is.

    An engine asks for the first time when a pause between its questions is over, and again after
    another one: who becomes ready just after a question would be seen a whole pause later.
    """
    waits_until = _started_at() + young_seconds
    while not _QUESTIONS[question](_role_here()):
        if time.time() >= waits_until:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _started_at() -> float:
    """When the process became what it is; 0 where it has not yet."""
    try:
        return os.stat(ROLE_FILE).st_mtime
    except OSError:
        return 0.0


def main(words: list[str]) -> None:
    """Answer one question by the exit code: 0 yes, 1 no, 2 for what is no question."""
    question, *rest = words or [""]
    if question not in _QUESTIONS or len(rest) > 1 or not all(map(str.isdecimal, rest)):
        sys.exit(2)
    sys.exit(0 if answer(question, float(rest[0]) if rest else 0.0) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
