"""A message's body on its way through a worker's parent process, which has no need to read it.

Celery reads every body in the parent and again in the child. A body of hundreds of events is given
to the child as it came, which then reads it once, and puts aside what it can't.
"""

from __future__ import annotations

from typing import Any

from kombu.serialization import register

from shared.messaging.batch import UnreadableBody
from shared.messaging.packed import Packed, unpacked

CONTENT_TYPE = "application/x-companion-unread"
NAME = "unread"


def leave_unread(message: Any) -> None:
    """Have the whole body handed to the task as its one argument, `unread`."""
    message.content_type, message.content_encoding = CONTENT_TYPE, "binary"
    if isinstance(message.body, Packed):
        # Its own type would be looked up at each message on the way to the child.
        message.body = bytes(message.body)


class _Unread(bytes):
    """Sent again by Celery it goes unpacked: a worker of a release before takes it as text."""

    def __json__(self) -> bytes:
        """What kombu writes in its place."""
        try:
            return unpacked(self)
        except UnreadableBody:
            return bytes(self)


def _as_it_came(body: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    return [], {NAME: _Unread(body) if isinstance(body, bytes) else body}, {}


def _not_written(_body: Any) -> Any:
    raise NotImplementedError("bodies are left unread, none is written so")


register("companion-unread", _not_written, _as_it_came, CONTENT_TYPE, "binary")
