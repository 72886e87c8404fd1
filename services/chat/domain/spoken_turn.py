"""A turn of this replica that is spoken while it is written, for who asked for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import structlog

from services.chat.domain.bell import Bell
from services.chat.domain.conversation import SessionId
from services.chat.domain.live import LiveEvent
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.speaking import AUDIO, VoiceLine
from services.chat.domain.spoken_text import SpokenText
from services.chat.domain.turn import TurnId
from services.chat.domain.turn_events import Delta
from shared.errors import DependencyUnavailable, ExpectedFailure

log = structlog.get_logger(__name__)

# What the hearer has not read yet; beyond it the rest waits at voice, and so at the vendor.
_MOST_WAITING_BYTES = 1 << 20
# Once the text is whole: how long nothing may be heard, and how long all of the rest may take.
_SILENCE_SECONDS = 30.0
_LONGEST_SECONDS = 600.0
_STOP_SECONDS = 2.0

TellTrouble: TypeAlias = Callable[[ExpectedFailure], LiveEvent]
"""What a hearer is told when audio is missing."""


class SpokenTurn:
    """The turn with its audio beside it. Fits `domain.live.LiveTurn`; it is over when both are.

    The text never waits for the audio: sentences are taken from the turn by position, as fast as
    the line takes them. Audio is kept for one hearer, until they read it, and never again.
    """

    def __init__(self, turn: RunningTurn, tell_trouble: TellTrouble) -> None:
        self.bell = Bell()
        self._turn = turn
        self._tell_trouble = tell_trouble
        self._waiting: deque[LiveEvent] = deque()
        self._waiting_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._line: VoiceLine | None = None
        self._work: asyncio.Task[None] | None = None
        self._talking: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None
        self._whole_at: float | None = None
        self._is_hushed = False
        self._is_silent = False
        turn.bell.call(self._rung)

    @property
    def turn_id(self) -> TurnId:
        return self._turn.turn_id

    @property
    def session_id(self) -> SessionId | None:
        return self._turn.session_id

    @property
    def is_over(self) -> bool:
        return self._turn.is_over and self._is_silent

    def said(self, after: int) -> Sequence[LiveEvent]:
        return self._turn.said(after)

    async def more(self, after: int) -> None:
        while not self.said(after) and not self._waiting and not self.is_over:
            await self.bell.rung()

    def heard(self) -> Sequence[LiveEvent]:
        """What there is to hear now; it is told once."""
        events = tuple(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._room.set()
        return events

    def speak(self, line: VoiceLine) -> None:
        """Have it spoken over this line, which is closed at the end."""
        self._line = line
        self._work = asyncio.create_task(self._speak(line))

    def be_silent(self, failure: ExpectedFailure) -> None:
        """It can't be spoken."""
        self._put(self._tell_trouble(failure))
        self._end()

    def mute(self) -> bool:
        """No more audio; the text goes on. Answers whether there was any to come."""
        if self._is_silent or self._is_hushed or self._line is None:
            return False
        self._is_hushed = True
        self.heard()
        if self._talking is not None:
            self._talking.cancel()
        self._stopping = asyncio.create_task(self._stop(self._line))
        self._wait_until(asyncio.get_running_loop().time() + _STOP_SECONDS)
        return True

    def leave(self) -> None:
        """The hearer has gone: nobody speaks any more. The text goes on as its own rules say."""
        self._turn.bell.forget(self._rung)
        if self._work is not None:
            self._work.cancel()

    def _rung(self) -> None:
        if self._turn.ended_as is not None:
            self.mute()
        elif self._turn.is_over:
            self._is_whole()
        self.bell.ring()

    def _put(self, event: LiveEvent) -> None:
        self._waiting.append(event)
        self._waiting_bytes += len(event[1])
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self._room.clear()
        self.bell.ring()

    def _end(self) -> None:
        self._is_silent = True
        self.bell.ring()

    async def _speak(self, line: VoiceLine) -> None:
        self._talking = talking = asyncio.create_task(self._talk(line))
        try:
            async with asyncio.timeout(None) as self._limit:
                await self._hear(line)
        except TimeoutError:
            self._put(self._tell_trouble(DependencyUnavailable("voice")))
        except ExpectedFailure as failure:
            self._put(self._tell_trouble(failure))
        finally:
            talking.cancel()
            self._end()
            with suppress(asyncio.CancelledError):
                await talking
            await line.close()

    async def _talk(self, line: VoiceLine) -> None:
        """Each sentence as soon as it is whole."""
        turn, text, position, is_prepared = self._turn, SpokenText(), 0, False
        try:
            while True:
                is_over = turn.is_over
                events = turn.events[position:]
                position += len(events)
                written = "".join([one.text for one in events if isinstance(one, Delta)])
                for sentence in text.add(written):
                    is_prepared = True
                    await line.say(sentence)
                if not is_prepared and text.is_within_sentence:
                    # By the time that it is whole, the way to the vendor is open.
                    is_prepared = True
                    await line.prepare()
                if is_over:
                    break
                await turn.more(position)
            for sentence in text.finish():
                await line.say(sentence)
            self._is_whole()
            await line.finish()
        except DependencyUnavailable:
            log.info("line_broken", turn_id=str(turn.turn_id))  # whoever hears tells of it
        except Exception:
            # A bug of ours: what was said is heard to its end.
            log.exception("talking_failed", turn_id=str(turn.turn_id))
            await self._stop(line)

    async def _hear(self, line: VoiceLine) -> None:
        while True:
            await self._room.wait()
            self._be_patient()
            name, data = await line.hear()
            if name != AUDIO:
                self._put((name, data))
                return
            if not self._is_hushed:
                self._put((name, data))

    def _is_whole(self) -> None:
        """The text has ended, whatever of it the line has taken."""
        if self._whole_at is None:
            self._whole_at = asyncio.get_running_loop().time()
            self._be_patient()

    def _be_patient(self) -> None:
        """Once the text is whole, what is to be heard of it is not waited for without end."""
        if self._whole_at is not None and not self._is_hushed:
            now = asyncio.get_running_loop().time()
            end = self._whole_at + _LONGEST_SECONDS
            self._wait_until(min(now + _SILENCE_SECONDS, end))

    def _wait_until(self, moment: float) -> None:
        # It may have passed, or all may have been heard, in this very step of the loop.
        if self._limit is not None:
            with suppress(RuntimeError):
                self._limit.reschedule(moment)

    async def _stop(self, line: VoiceLine) -> None:
        with suppress(DependencyUnavailable):
            await line.stop()
