"""What a device may say through its socket, and what is wrong with what it said."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.chat.api.idempotency_key import LONGEST_KEY, PATTERN
from services.chat.api.question_body import NewMessage
from shared.errors import Conflict, Invalid, LimitReached

LARGEST_FRAME_BYTES = 1 << 20
LARGEST_EMITTED_BYTES = 16 << 10
MOST_ROOMS = 50

Ref: TypeAlias = Annotated[str, Field(max_length=100)] | int | None
_LIKE_A_NAME = re.compile(r"[A-Za-z_]{1,32}\Z")


class UnreadableMessage(Invalid):
    """A message that is no JSON object with a known `op` and its fields."""

    code = "unreadable_message"

    def __init__(self, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__("This message can't be understood.", errors=errors or [])


class NotJoined(Conflict):
    """Whoever is in no room can't speak in it."""

    code = "not_joined"

    def __init__(self) -> None:
        super().__init__("Join the session first.")


class TooManyRooms(LimitReached):
    """A socket is in as many rooms as it may."""

    code = "too_many_rooms"

    def __init__(self) -> None:
        super().__init__(
            f"A socket may be in {MOST_ROOMS} rooms; leave one first.",
            retry_after=timedelta(seconds=1),
        )


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


class _Word(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ref: Ref = None


class Auth(_Word):
    """Show a token: first, or a new one before the old one expires."""

    op: Literal["auth"]
    token: Annotated[str, Field(max_length=8192)]


class Send(NewMessage):
    """Ask; the fields are those of `POST /chat/sessions/{id}/messages`."""

    op: Literal["send"]
    ref: Ref = None
    session_id: UUID
    idempotency_key: Annotated[
        str | None, Field(min_length=1, max_length=LONGEST_KEY, pattern=PATTERN)
    ] = None


class Stop(_Word):
    """End the running answer."""

    op: Literal["stop"]
    session_id: UUID


class Join(_Word):
    """Get every answer of a session from now on; with `after`, also the rest of the last one."""

    op: Literal["join"]
    session_id: UUID
    after: Annotated[int, Field(ge=0, le=999_999_999)] | None = None
    turn_id: UUID | None = None


class Leave(_Word):
    """The opposite of `join`."""

    op: Literal["leave"]
    session_id: UUID


class Emit(_Word):
    """Tell the other devices in the room something; nothing of it is kept."""

    op: Literal["emit"]
    session_id: UUID
    event: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    data: Any = None


class Ping(_Word):
    """Answered by `pong`."""

    op: Literal["ping"]


Word: TypeAlias = Auth | Send | Stop | Join | Leave | Emit | Ping
_WORDS: TypeAdapter[Word] = TypeAdapter(Annotated[Word, Field(discriminator="op")])


def read_word(text: str) -> tuple[Word | None, Ref, Invalid | None]:
    """The word, or what is wrong with it; either way the sender's `ref`, if it can be read."""
    try:
        given = orjson.loads(text)
    except ValueError:
        return None, None, UnreadableMessage()
    ref = given.get("ref") if isinstance(given, dict) else None
    if not (isinstance(ref, int) or (isinstance(ref, str) and len(ref) <= 100)):
        ref = None
    try:
        return _WORDS.validate_python(given), ref, None
    except ValidationError as error:
        return None, ref, UnreadableMessage(_places(error))
    except RecursionError:
        return None, ref, UnreadableMessage()


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
