"""What may be said at `WS /voice/realtime`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from services.voice.api.speech import SettingsBody
from services.voice.domain.script import LONGEST_TEXT, MannerWish, SettingsWish
from shared.errors import Invalid
from shared.http import socket_words
from shared.http.socket_words import Auth, Ping, Ref, SpokenWord

LARGEST_MESSAGE = 64 << 10
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Start(SpokenWord):
    """Begin an utterance."""

    op: Literal["start"]
    voice_id: Annotated[str, Field(min_length=1, max_length=200)]
    model: Annotated[str | None, Field(max_length=64, pattern=_NAME)] = None
    format: Annotated[str | None, Field(max_length=32, pattern=_NAME)] = None
    settings: SettingsBody = Field(default_factory=SettingsBody)
    audio: Literal["binary", "base64"] = "base64"
    alignment: bool = False

    def to_wish(self) -> MannerWish:
        return MannerWish(
            voice_id=self.voice_id,
            model=self.model,
            format=self.format,
            settings=SettingsWish(**self.settings.model_dump()),
        )


class Say(SpokenWord):
    """More of its text."""

    op: Literal["say"]
    text: Annotated[str, Field(max_length=2 * LONGEST_TEXT)]


class Flush(SpokenWord):
    """Say what is there, though the sentence has no end yet."""

    op: Literal["flush"]


class End(SpokenWord):
    """Its text is complete."""

    op: Literal["end"]


class Stop(SpokenWord):
    """Be silent, now: the utterance that speaks and all that wait for their turn."""

    op: Literal["stop"]


Word: TypeAlias = Auth | Start | Say | Flush | End | Stop | Ping
_WORDS: TypeAdapter[Word] = TypeAdapter(Annotated[Word, Field(discriminator="op")])


def read_word(text: str) -> tuple[Word | None, Ref, Invalid | None]:
    """The word, or what is wrong with it; either way the sender's `ref`, if it can be read."""
    return socket_words.read_word(_WORDS, text)
