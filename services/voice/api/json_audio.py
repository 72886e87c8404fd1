"""A speech as one JSON document: its audio in base64, then what is known at its end.

The audio is held back as long as there is room for it, so that a speech that is cut can still be
told as a failure and a head that names its length is right. Beyond that it goes out as it comes.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
from starlette.types import Send

from services.voice.domain.joint import wav_with_length

# Of all documents of a replica together, whose memory may be 512 MiB for all that it does; and of
# one: eight minutes of the usual mp3.
_ROOM_BYTES = 64 << 20
_LARGEST_HELD_BYTES = 8 << 20
_LARGEST_WAV_HEAD = 64 << 10
_BEGINNING = b'{"audio_base64":"'


class Room:
    """How much audio may be held back, in all documents together."""

    def __init__(self, most: int = _ROOM_BYTES, of_one: int = _LARGEST_HELD_BYTES) -> None:
        self._left = most
        self._of_one = of_one

    @property
    def left(self) -> int:
        return self._left

    def takes(self, size: int, *, held: int) -> bool:
        """Whether there is room for so much beside what the document holds already."""
        if size > self._left or held + size > self._of_one:
            return False
        self._left -= size
        return True

    def free(self, size: int) -> None:
        self._left += size


ROOM = Room()
"""This replica's."""


class JsonAudio:
    """Writes one such document. `head` is the message that begins the answer, given how long the
    whole will be, where that is known."""

    def __init__(
        self, send: Send, head: Callable[[int | None], dict[str, Any]], room: Room = ROOM
    ) -> None:
        self._send = send
        self._head = head
        self._room = room
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._rest = b""  # base64 takes three bytes at a time
        self.is_begun = False

    async def add(self, audio: bytes) -> None:
        """The next piece."""
        if not self.is_begun:
            if self._room.takes(len(audio), held=self._held):
                self._pieces.append(audio)
                self._held += len(audio)
                return
            await self._begin(None)
        await self._write(audio)

    async def end(self, about: dict[str, Any]) -> None:
        """The audio is complete; this is what else the document says."""
        last = b'",' + orjson.dumps(about)[1:]
        if not self.is_begun:
            self._tell_length_of_wav()
            encoded = (self._held + 2) // 3 * 4
            await self._begin(len(_BEGINNING) + encoded + len(last))
        await self._say(b64encode(self._rest) + last, more=False)

    def drop(self) -> None:
        """Whatever is held still: nobody will hear it."""
        self._pieces.clear()
        self._room.free(self._held)
        self._held = 0

    async def _begin(self, length: int | None) -> None:
        self.is_begun = True
        await self._send(self._head(length))
        await self._say(_BEGINNING)
        while self._pieces:
            piece = self._pieces.popleft()
            self._held -= len(piece)
            self._room.free(len(piece))
            await self._write(piece)

    async def _write(self, audio: bytes) -> None:
        audio = self._rest + audio
        whole = len(audio) - len(audio) % 3
        self._rest = audio[whole:]
        if whole:
            await self._say(b64encode(audio[:whole]))

    async def _say(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _tell_length_of_wav(self) -> None:
        beginning = b""
        while self._pieces and len(beginning) < _LARGEST_WAV_HEAD:
            beginning += self._pieces.popleft()
        if beginning:
            self._pieces.appendleft(wav_with_length(beginning, self._held))
