"""One socket of `WS /voice/realtime`: utterances are taken in one after the other, and spoken one
after the other."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections import deque
from dataclasses import asdict
from typing import Any

import structlog
from starlette.websockets import WebSocket

from services.voice.actions import Actions
from services.voice.actions.live_utterance import Ending, LiveUtterance
from services.voice.actions.speak_live import LiveWish
from services.voice.api.outlet import Outlet
from services.voice.api.realtime_words import (
    LARGEST_MESSAGE,
    End,
    Flush,
    Say,
    Start,
    Stop,
    Word,
    read_word,
)
from services.voice.domain.errors import NoUtterance, TooManyUtterances, UtteranceOpen
from services.voice.domain.gathered_text import WholeSentences
from services.voice.domain.piece import Piece
from services.voice.domain.speech import Outcome
from shared.close_codes import CloseCode
from shared.errors import ExpectedFailure, Unauthenticated
from shared.events.base import current_request_id
from shared.http.caller import Caller, on_behalf_of
from shared.http.errors import problem_of
from shared.http.known_device import KnownDevice, TokenDoor
from shared.http.socket_door import bug_of
from shared.http.socket_words import Auth, Pace, Ping, Ref
from shared.lenient_json import to_json

log = structlog.get_logger(__name__)

# A program that passes a model's text on as it comes sends a word for each token.
_WORDS_PER_SECOND = 200.0
_BURST = 400.0
_MOST_UTTERANCES = 5  # the one that speaks, and those that wait for their turn
# Before the vendor itself hangs up (180 s), and before a line that was opened early grows old.
_TEXT_WITHIN_SECONDS = 120.0
_SENTENCE_WITHIN_SECONDS = 10.0
_PAUSE_SECONDS = 1.0  # after what may be a sentence or an abbreviation
_IDLE_SECONDS = 600.0
_LAST_WORDS_SECONDS = 1.0


class _Spoken:
    """An utterance as this socket hears it: fits `actions.live_utterance.Hearer`."""

    def __init__(self, number: int, word: Start, utterance: LiveUtterance, outlet: Outlet) -> None:
        self.utterance = utterance
        self.told_at = time.monotonic()
        self._head = number.to_bytes(4, "big")
        self._number = number
        self._word = word
        self._outlet = outlet
        self._told_format: str | None = None

    def tell(self, event: str, data: Any, **more: Any) -> None:
        if not self.is_told and event != "started":
            self.started()  # comes first, whatever else is to be told
        id_ = str(self.utterance.speech.hold.id)
        message = {"event": event, "utterance_id": id_, **more, "data": data}
        if self._word.ref is not None:
            message["ref"] = self._word.ref
        self._outlet.tell(to_json(message).decode())

    @property
    def is_told(self) -> bool:
        """Whether the device has heard of it."""
        return self._told_format is not None

    def started(self) -> None:
        """Told again where the format turns out to be another one, before any audio in it."""
        speech = self.utterance.speech
        manner, wished = speech.manner, speech.wished_format
        self._told_format = manner.format.name
        fallback = None
        if wished is not None:
            fallback = {"wished": wished.name, "given": manner.format.name}
        self.tell(
            "started",
            {
                "number": self._number,
                "voice_id": manner.voice_id,
                "model": manner.model,
                "format": manner.format.name,
                "content_type": manner.format.content_type,
                "audio": self._word.audio,
                "format_fallback": fallback,
            },
        )

    async def hear(self, piece: Piece) -> None:
        if self.utterance.speech.manner.format.name != self._told_format:
            self.started()
        alignment = self._alignment(piece)
        if self._word.audio == "binary":
            if alignment is not None:
                self.tell("alignment", alignment)
            await self._outlet.hand(self._head + piece.audio)
            return
        data: dict[str, Any] = {"audio": b64encode(piece.audio).decode()}
        if alignment is not None:
            data["alignment"] = alignment
        id_ = str(self.utterance.speech.hold.id)
        message = {"event": "audio", "utterance_id": id_, "data": data}
        await self._outlet.hand(to_json(message).decode())

    def admitted(self) -> None:
        speech = self.utterance.speech
        limits = [
            {
                "name": limit.name,
                "limit": limit.limit,
                "remaining": limit.remaining,
                "resets_at": limit.resets_at,
            }
            for limit in speech.limits
        ]
        self.tell("limits", {"tier": speech.tier, "limits": limits})

    def refused(self, failure: ExpectedFailure) -> None:
        self.tell("error", problem_of(failure)[1], final=False)

    def over(self, ending: Ending) -> None:
        used = asdict(ending.used) if ending.used is not None else None
        data = {"characters": ending.characters, "usage": used}
        if ending.failure is not None:
            document = problem_of(ending.failure)[1]
            self.tell("error", {**document, "usage": used}, final=True)
        elif ending.outcome is Outcome.DONE:
            self.tell("done", data)
        else:
            self.tell("interrupted", {**data, "reason": ending.outcome.value})

    def _alignment(self, piece: Piece) -> dict[str, Any] | None:
        if not self._word.alignment or piece.alignment is None:
            return None
        return {
            "characters": list(piece.alignment.characters),
            "starts": list(piece.alignment.starts),
            "ends": list(piece.alignment.ends),
        }


class RealtimeSocket(KnownDevice):
    """Fits `domain.open_sockets.OpenSocket`."""

    def __init__(
        self, socket: WebSocket, actions: Actions, caller: Caller, *, door: TokenDoor
    ) -> None:
        super().__init__(caller, door, Pace(_WORDS_PER_SECOND, _BURST))
        self._socket = socket
        self._actions = actions
        self._outlet = Outlet(socket)
        self._queue: deque[_Spoken] = deque()  # the first one speaks
        self._open: _Spoken | None = None  # the one that takes text: the last of the queue
        self._count = 0
        self._wake = asyncio.Event()
        self._is_closing = False
        self._is_slow = False
        self._heard_at = time.monotonic()
        self._writer: asyncio.Task[None] | None = None
        self._speaker: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        # The event loop keeps only weak references to tasks; each ends with the line it waits for.
        self._telling: set[asyncio.Task[None]] = set()

    async def serve(self, ref: Ref) -> None:
        """Until one side closes."""
        self._tell_who(ref)
        writer = self._writer = asyncio.create_task(self._outlet.write())
        reader = asyncio.create_task(self._read())
        speaker = self._speaker = asyncio.create_task(self._speak())
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._end_all(Outcome.CLIENT_GONE)
            if self._leaving is not None:
                self._leaving.cancel()
            for task in (writer, reader):
                task.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)
            # The one that spoke is settled, whoever leaves.
            await asyncio.shield(asyncio.wait({speaker}))
            self._actions.open_sockets.gone(self)
        error = bug_of(reader) or bug_of(writer)
        if self._is_slow:
            await self._outlet.say_goodbye(CloseCode.TOO_SLOW, "too_slow")
        elif error is not None:
            log.error("socket_failed", exc_info=error)
            await self._outlet.say_goodbye(CloseCode.FAILED, "internal_error")

    # What it is told from outside.

    def close(self, code: CloseCode, reason: str) -> None:
        """What speaks is stopped, and its last words are written."""
        if self._leaving is None:
            self._end_all(Outcome.STOPPED)
            self._leaving = asyncio.create_task(self._leave(code, reason))

    def look(self) -> None:
        now = time.monotonic()
        if self._outlet.is_stuck():
            self._is_slow = True
            if self._writer is not None:
                self._writer.cancel()
            return
        if self._left_of_token() <= 0:
            self._run_out()
        elif (expiry := self._expiry_to_tell()) is not None:
            self._tell("token_expiring", expiry)
        self._look_at_text(now)
        if not self._queue and now - self._heard_at > _IDLE_SECONDS:
            self.close(CloseCode.IDLE, "idle")

    def _run_out(self) -> None:
        """The token is no longer good. What speaks is spoken to its end; those that wait could not
        be asked for any more. Until then a new token may come."""
        for spoken in tuple(self._queue)[1:]:
            spoken.utterance.stop(Outcome.STOPPED)
        if self._open is not None:
            self._complete()
        if not self._queue:
            self.close(CloseCode.UNAUTHENTICATED, "token_expired")

    def _look_at_text(self, now: float) -> None:
        if self._open is None:
            return
        waited = now - self._open.told_at
        utterance = self._open.utterance
        if waited > (_PAUSE_SECONDS if utterance.may_be_over else _SENTENCE_WITHIN_SECONDS):
            utterance.flush()
        if waited > _TEXT_WITHIN_SECONDS:
            self._complete()

    def _end_all(self, outcome: Outcome) -> None:
        self._is_closing = True
        for spoken in self._queue:
            spoken.utterance.stop(outcome)
        self._wake.set()

    async def _leave(self, code: CloseCode, reason: str) -> None:
        if self._speaker is not None:
            await asyncio.wait({self._speaker}, timeout=_LAST_WORDS_SECONDS)
        self._outlet.close(int(code), reason)

    # Speaking.

    async def _speak(self) -> None:
        while True:
            while self._queue:
                spoken = self._queue[0]
                # What is told and logged of it is found by the request of its line in the ledger.
                current_request_id.set(spoken.utterance.speech.hold.request_id)
                try:
                    await spoken.utterance(spoken)
                except Exception:
                    log.exception("utterance_failed")
                    self.close(CloseCode.FAILED, "internal_error")
                finally:
                    self._queue.popleft()
                    if self._open is spoken:
                        self._open = None
            if self._is_closing:
                return
            self._wake.clear()
            await self._wake.wait()

    # Reading.

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._heard_at = time.monotonic()
            heard: tuple[Word, Ref] | None = self._word_in(
                message, read_word, largest=LARGEST_MESSAGE
            )
            if heard is not None:
                await self._answered(heard[0])

    async def _answered(self, word: Word) -> None:
        try:
            await self._do(word)
        except ExpectedFailure as failure:
            self._complain(failure, word.ref)

    async def _do(self, word: Word) -> None:
        match word:
            case Say():
                spoken = self._taking_text()
                spoken.utterance.add(word.text)
                spoken.told_at = time.monotonic()
            case Flush():
                self._taking_text().utterance.flush()
            case End():
                self._taking_text()
                self._complete()
            case Start():
                await self._start(word)
            case Stop():
                for spoken in self._queue:
                    spoken.utterance.stop(Outcome.STOPPED)
                self._open = None
            case Auth():
                await self._renew(word)
            case Ping():
                self._tell("pong", {}, word.ref)

    async def _start(self, word: Start) -> None:
        if self._left_of_token() <= 0:
            raise Unauthenticated("The token has expired: say `auth` with a new one.")
        if self._open is not None and self._open.utterance.takes_text:
            raise UtteranceOpen
        if len(self._queue) >= _MOST_UTTERANCES:
            raise TooManyUtterances(_MOST_UTTERANCES)
        wish = LiveWish(word.to_wish(), self._caller.tier, on_behalf_of(self._caller))
        speech = await self._actions.speak_live(wish)
        self._count += 1
        spoken = _Spoken(self._count, word, LiveUtterance(speech, WholeSentences()), self._outlet)
        if self._is_closing:
            return
        if all(before.utterance.speech.ended_as is not None for before in self._queue):
            # Its turn is now: the line is open by the time that the first words are here.
            speech.prepare()
        self._queue.append(spoken)
        self._open = spoken
        self._wake.set()
        self._tell_started()
        if not speech.is_format_settled:
            # Meanwhile the device is heard: it may want silence, or go.
            task = asyncio.create_task(self._tell_started_later(spoken))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell_started_later(self, spoken: _Spoken) -> None:
        await spoken.utterance.speech.format_settled()
        self._tell_started()

    def _tell_started(self) -> None:
        """In the order in which they were asked for: none before one whose format isn't known."""
        for spoken in self._queue:
            if not spoken.is_told:
                if not spoken.utterance.speech.is_format_settled:
                    return
                spoken.started()

    def _taking_text(self) -> _Spoken:
        if self._open is None:
            raise NoUtterance
        return self._open

    def _complete(self) -> None:
        assert self._open is not None
        self._open.utterance.complete()
        self._open = None

    async def _renew(self, word: Auth) -> None:
        await self._show_again(word.token)
        for spoken in self._queue:
            spoken.utterance.speech.renew(on_behalf_of(self._caller))
        self._tell_who(word.ref)

    # Telling.

    def _complain(self, failure: ExpectedFailure, ref: Ref) -> None:
        self._tell("error", problem_of(failure)[1], ref)

    def _tell(self, event: str, data: Any, ref: Ref = None) -> None:
        message: dict[str, Any] = {"event": event}
        if ref is not None:
            message["ref"] = ref
        self._outlet.tell(to_json({**message, "data": data}).decode())

    def _tell_who(self, ref: Ref) -> None:
        self._tell("authenticated", self._who(), ref)
