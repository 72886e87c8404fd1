"""Lists a page at a time: `{"data": [...], "next_cursor": …}`.

A cursor is opaque to clients and names the last item of a page by what the list is sorted by, so
that a page is neither skipped nor repeated when items come and go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from shared.errors import Invalid

T = TypeVar("T")
B = TypeVar("B")


class BadCursor(Invalid):
    """The cursor is none that we gave out for this list."""

    code = "bad_cursor"

    def __init__(self) -> None:
        super().__init__("The cursor is not one of this list's.")


class Page(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[T]
    next_cursor: str | None = None

    @classmethod
    def of(cls, items: Sequence[T], limit: int, cursor: Callable[[T], str]) -> Page[T]:
        """A page out of `limit` + 1 items: the one too many tells that there is another page."""
        shown = list(items[:limit])
        return cls(data=shown, next_cursor=cursor(shown[-1]) if len(items) > limit else None)

    def as_bodies(self, body_of: Callable[[T], B]) -> Page[B]:
        """The same page, each item as clients see it."""
        return Page(data=[body_of(item) for item in self.data], next_cursor=self.next_cursor)


def cursor_of(*parts: Any) -> str:
    """An opaque cursor of a few texts."""
    text = "\x1f".join(str(part) for part in parts)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def moment_in_cursor(text: str) -> datetime:
    """A kind of part: a moment with its zone, which a database can take. Raises ValueError or
    OverflowError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a cursor's moment has its zone")
    return moment.astimezone(UTC)


def read_cursor(cursor: str, *kinds: Callable[[str], Any]) -> tuple[Any, ...]:
    """The parts of a cursor, each read by its kind. Raises BadCursor."""
    try:
        text = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).decode()
        parts = text.split("\x1f")
        return tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))
    except (ValueError, binascii.Error, ArithmeticError) as error:
        raise BadCursor from error
