"""What a device may say through its socket, and what is wrong with what it said."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import Field, TypeAdapter

from services.chat.api.question_body import NewMessage
from shared.errors import Conflict, Invalid, LimitReached
from shared.http import socket_words
from shared.http.idempotency_key import LONGEST_KEY, PATTERN
from shared.http.socket_words import Auth, Ping, Ref, SpokenWord

LARGEST_FRAME_BYTES = 1 << 20
LARGEST_EMITTED_BYTES = 16 << 10
MOST_ROOMS = 50


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


class Send(NewMessage):
    """Ask; the fields are those of `POST /chat/sessions/{id}/messages`."""

    op: Literal["send"]
    ref: Ref = None
    session_id: UUID
    idempotency_key: Annotated[
        str | None, Field(min_length=1, max_length=LONGEST_KEY, pattern=PATTERN)
    ] = None


class Stop(SpokenWord):
    """End the running answer."""

    op: Literal["stop"]
    session_id: UUID


class Mute(SpokenWord):
    """End the audio of the running answer; its text goes on."""

    op: Literal["mute"]
    session_id: UUID


class Join(SpokenWord):
    """Get every answer of a session from now on; with `after`, also the rest of the last one."""

    op: Literal["join"]
    session_id: UUID
    after: Annotated[int, Field(ge=0, le=999_999_999)] | None = None
    turn_id: UUID | None = None


class Leave(SpokenWord):
    """The opposite of `join`."""

    op: Literal["leave"]
    session_id: UUID


class Emit(SpokenWord):
    """Tell the other devices in the room something; nothing of it is kept."""

    op: Literal["emit"]
    session_id: UUID
    event: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    data: Any = None


Word: TypeAlias = Auth | Send | Stop | Mute | Join | Leave | Emit | Ping
_WORDS: TypeAdapter[Word] = TypeAdapter(Annotated[Word, Field(discriminator="op")])


def read_word(text: str) -> tuple[Word | None, Ref, Invalid | None]:
    """The word, or what is wrong with it; either way the sender's `ref`, if it can be read."""
    return socket_words.read_word(_WORDS, text)
