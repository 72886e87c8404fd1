"""What the words at every WebSocket have in common, and what is wrong with one that was said."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import Conflict, Invalid, LimitReached

Ref: TypeAlias = Annotated[str, Field(max_length=100)] | int | None
_LIKE_A_NAME = re.compile(r"[A-Za-z_]{1,32}\Z")
_WORDS_PER_SECOND = 20.0
_BURST = 40.0

W = TypeVar("W")


class UnreadableMessage(Invalid):
    """A message that is no JSON object with a known `op` and its fields."""

    code = "unreadable_message"

    def __init__(self, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__("This message can't be understood.", errors=errors or [])


class TooFast(LimitReached):
    """More messages in a second than a person's device sends."""

    code = "too_many_messages"

    def __init__(self) -> None:
        super().__init__("Slow down.", retry_after=timedelta(seconds=1))


class OtherUser(Conflict):
    """A socket stays with the user who opened it."""

    code = "other_user"

    def __init__(self) -> None:
        super().__init__("This token is another user's; open another socket for them.")


def told_moment(epoch_seconds: int) -> str:
    """When something is, as all times are told: RFC 3339, UTC."""
    return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


class SpokenWord(BaseModel):
    """One message; its `ref` comes back with what it caused."""

    model_config = ConfigDict(extra="forbid")

    ref: Ref = None


class Auth(SpokenWord):
    """Show a token: first, or a new one before the old one expires."""

    op: Literal["auth"]
    token: Annotated[str, Field(max_length=8192)]


class Ping(SpokenWord):
    """Answered by `pong`."""

    op: Literal["ping"]


class Pace:
    """How many words a device may still say at this moment."""

    def __init__(self, per_second: float = _WORDS_PER_SECOND, burst: float = _BURST) -> None:
        self._per_second, self._burst = per_second, burst
        self._left, self._counted_at = burst, time.monotonic()

    def allows_one(self) -> bool:
        """Counts it."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def read_word(words: TypeAdapter[W], text: str) -> tuple[W | None, Ref, Invalid | None]:
    """The word, or what is wrong with it; either way the sender's `ref`, if it can be read."""
    try:
        given = orjson.loads(text)
    except ValueError:
        return None, None, UnreadableMessage()
    ref = _ref_in(given)
    try:
        return words.validate_python(given), ref, None
    except ValidationError as error:
        return None, ref, UnreadableMessage(_places(error))
    except RecursionError:
        return None, ref, UnreadableMessage()


def _ref_in(given: Any) -> Ref:
    ref = given.get("ref") if isinstance(given, dict) else None
    fits = isinstance(ref, int) or (isinstance(ref, str) and len(ref) <= 100)
    return ref if fits else None


def _places(error: ValidationError) -> list[dict[str, str]]:
    """Where it is wrong and by which rule, never what was sent."""
    return [
        {
            "field": ".".join(_name(part) for part in found["loc"][1:]) or "op",
            "rule": found["type"],
        }
        for found in error.errors(include_url=False, include_context=False, include_input=False)[:5]
    ]


def _name(part: int | str) -> str:
    return str(part) if isinstance(part, int) or _LIKE_A_NAME.match(part) else "(unknown field)"
