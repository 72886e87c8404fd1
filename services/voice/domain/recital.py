"""A text said part by part: each is asked for while the one before is being heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import field
from typing import TypeAlias

from services.voice.domain.joint import Joint, joint_for
from services.voice.domain.piece import Alignment, Piece
from services.voice.domain.ports import Audio, TimedAudio
from services.voice.domain.script import VENDOR, Script
from services.voice.domain.speech import Used, used_by
from shared.errors import ExpectedFailure
from shared.values import dataclass
from shared.vendors.failures import VendorFailed, VendorOverloaded, VendorRateLimited

Ask: TypeAlias = Callable[[Script], AbstractAsyncContextManager[Audio | TimedAudio]]
"""How a vendor is asked for a part."""

Told: TypeAlias = Callable[[int], Awaitable[bool]]
"""Is told of so many characters, all in all, before the vendor is asked for them. False: don't."""

# Of the audio that a part may come to, so much has come when the next one is asked for: late, since
# what was asked for is charged, but early enough for the vendor to begin before a hearer waits.
_ASKED_AT = 0.8
_SECONDS_PER_CHARACTER = 0.06
# A part that the vendor is too busy for is asked for again: what came before is heard meanwhile.
_BUSY_WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)
_LONGEST_WAIT_SECONDS = 10.0
END = Piece(b"")


@dataclass(slots=True, eq=False)
class _Part:
    """A part that the vendor was asked for."""

    script: Script
    is_asked: bool = False
    audio: Audio | TimedAudio | None = None
    has_failed: bool = False  # before any audio
    line: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def characters(self) -> int | None:
        """What the vendor says that it charges."""
        return None if self.audio is None else self.audio.characters


class Recital:
    """The audio of one speech, joined from that of its parts; to be read by one task."""

    def __init__(self, parts: Sequence[Script], ask: Ask, told: Told) -> None:
        self._coming = list(parts)
        self._ask = ask
        self._told = told
        self._asked: list[_Part] = []
        self._now: _Part | None = None
        self._is_over = False  # the part that was heard last; the next one has not come yet
        self._next: asyncio.Task[_Part] | None = None
        self._failure: ExpectedFailure | None = None  # to be told after what was held back
        self._joint: Joint = joint_for(parts[0].format, len(parts))
        self._first = END
        # When the last letter so far has been said; and that of the parts before.
        self._says = self._said = 0.0
        # For guessing how much audio a part comes to: bytes of a character, and those that came.
        self._bytes_per_character = parts[0].format.bytes_per_second * _SECONDS_PER_CHARACTER
        self._came = 0
        self._ask_at = 0.0

    @property
    def request_id(self) -> str | None:
        """The vendor's name for what it was asked first."""
        audio = self._asked[0].audio if self._asked else None
        return None if audio is None else audio.request_id

    @property
    def used(self) -> Used:
        """What the vendor charges: for what it was asked, however much of that was heard."""
        parts = [
            used_by(part.script, part.characters)
            for part in self._asked
            if part.is_asked and not part.has_failed
        ]
        is_counted = any(part.source == "counted" for part in parts)
        characters = sum(part.characters for part in parts)
        return Used(characters, "counted" if is_counted else "provider")

    async def begin(self) -> None:
        """Wait for the first piece of audio. Raises what the vendor's opening raises, or
        VendorFailed when no audio comes."""
        part = _Part(self._coming.pop(0))
        self._asked.append(part)
        await self._open(part)
        self._hear(part)
        self._first = await self._read_first()

    async def read(self) -> Piece:
        """The next piece; an empty one at the end. Raises VendorFailed when it was cut, after
        everything that had come."""
        while self._now is not None:
            piece, self._first = self._first, END
            if piece is END:
                piece = await self._come()
            if piece.audio or piece.alignment is not None:
                return piece
        if self._failure is not None:
            raise self._failure
        return END

    async def close(self) -> None:
        """Leave whatever is open; that also tells the vendor to stop."""
        self._now = None
        task, self._next = self._next, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for part in self._asked:
            await part.line.aclose()

    async def _open(self, part: _Part) -> None:
        part.is_asked, part.has_failed = True, False
        try:
            part.audio = await part.line.enter_async_context(self._ask(part.script))
        except BaseException as failure:
            # Who is cancelled while it waits does not know whether the vendor charges.
            part.has_failed = isinstance(failure, Exception)
            raise

    def _hear(self, part: _Part) -> None:
        self._now, self._came, self._is_over = part, 0, False
        self._said = self._says
        guess = part.script.characters * self._bytes_per_character
        self._ask_at = guess * _ASKED_AT if self._coming else float("inf")

    async def _read_first(self) -> Piece:
        """The part's first piece: without one nothing of it is charged."""
        part = self._now
        assert part is not None
        try:
            piece = await _read(part.audio)
            while piece is not END and not piece.audio:
                piece = await _read(part.audio)
            if piece is END:
                raise VendorFailed(VENDOR)
        except Exception:
            part.has_failed = True
            raise
        return self._joined(piece)

    def _joined(self, piece: Piece) -> Piece:
        self._came += len(piece.audio)
        if self._came >= self._ask_at and self._next is None:
            self._next = asyncio.create_task(self._asked_for_next())
        audio = self._joint.add(piece.audio)
        if audio is piece.audio and piece.alignment is None:
            return piece
        begins = self._joint.begins
        times = [_later(each, begins, self._said) for each in (piece.alignment, piece.normalized)]
        if piece.alignment is not None and piece.alignment.ends:
            self._says = begins + piece.alignment.ends[-1]
        return Piece(audio, *times)

    async def _come(self) -> Piece:
        """What comes next. Where it does not, what was held back for it."""
        assert self._now is not None
        try:
            if self._is_over:
                return await self._go_on()
            piece = await _read(self._now.audio)
            return await self._end_part() if piece is END else self._joined(piece)
        except ExpectedFailure as failure:
            self._now, self._failure = None, failure
            return Piece(self._joint.cut())

    async def _end_part(self) -> Piece:
        """Nothing more comes of it: the next one is asked for, if there is one; answers what was
        held back and is heard meanwhile."""
        assert self._now is not None
        self._bytes_per_character = self._came / self._now.script.characters
        await self._now.line.aclose()
        ending = Piece(self._joint.end_part())
        if self._next is None and self._coming:
            self._next = asyncio.create_task(self._asked_for_next())
        if self._next is None:
            self._now = None
        self._is_over = True
        return ending

    async def _go_on(self) -> Piece:
        """Turn to the next part: its first piece."""
        assert self._next is not None
        try:
            # Whoever is cancelled here still has to tell what was asked: `close` ends the task.
            part = await asyncio.shield(self._next)
        except ExpectedFailure as failure:
            # Whatever it is about, the hearer has begun to listen.
            raise VendorFailed(VENDOR) from failure
        self._next = None
        self._hear(part)
        return await self._read_first()

    async def _asked_for_next(self) -> _Part:
        part = _Part(self._coming.pop(0))
        self._asked.append(part)
        characters = sum(asked.script.characters for asked in self._asked)
        if not await self._told(characters):
            raise VendorFailed(VENDOR)
        for wait in _BUSY_WAITS_SECONDS:
            try:
                await self._open(part)
                return part
            except (VendorRateLimited, VendorOverloaded) as busy:
                told = busy.retry_after.total_seconds() if busy.retry_after else 0.0
                await asyncio.sleep(min(max(wait, told), _LONGEST_WAIT_SECONDS))
        await self._open(part)
        return part


async def _read(audio: Audio | TimedAudio | None) -> Piece:
    assert audio is not None
    read = await audio.read()
    piece = Piece(read) if isinstance(read, bytes) else read
    return piece if piece.audio or piece.alignment is not None else END


def _later(alignment: Alignment | None, seconds: float, said: float) -> Alignment | None:
    """The same after so many seconds, and not before what has been said: what is left out between
    two parts may be some hundredths of a second more than silence."""
    if alignment is None or not seconds:
        return alignment
    return Alignment(
        alignment.characters,
        [round(max(said, start + seconds), 3) for start in alignment.starts],
        [round(max(said, end + seconds), 3) for end in alignment.ends],
    )
