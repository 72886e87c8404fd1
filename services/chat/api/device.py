"""One device's socket: what it says is done one after the other, what it hears is written as fast
as it reads.

It holds a position in each turn that it follows, and no copies: a slow device costs its positions.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from starlette.websockets import WebSocket

from services.chat.actions import Actions
from services.chat.api.follower import Message
from services.chat.api.live import answer_of
from services.chat.api.question_body import question_of
from services.chat.api.socket_words import (
    LARGEST_EMITTED_BYTES,
    LARGEST_FRAME_BYTES,
    MOST_ROOMS,
    Emit,
    Join,
    Leave,
    Mute,
    NotJoined,
    Send,
    Stop,
    TooManyRooms,
    Word,
    read_word,
)
from services.chat.domain.conversation import SessionId
from services.chat.domain.errors import NoTurn
from services.chat.domain.live import LiveTurn
from services.chat.domain.spoken_turn import SpokenTurn
from services.chat.domain.turn import TurnId
from shared.close_codes import CloseCode
from shared.errors import ExpectedFailure, TooLarge
from shared.http.caller import Caller
from shared.http.errors import problem_of
from shared.http.known_device import KnownDevice, TokenDoor, length_of
from shared.http.socket_door import bug_of
from shared.http.socket_words import Auth, Pace, Ping, Ref, TooFast, UnreadableMessage
from shared.lenient_json import to_json
from shared.values import dataclass

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS = 30.0
# What waits beside the turns' events; a device that lets so much lie does not read.
_MOST_WAITING = 256
_MOST_WAITING_BYTES = 1 << 20
_STOPS_AT_ONCE = 4
# While a question waits for its turn; of one that says more it is not noticed that it leaves.
_MOST_UNREAD = 16
_MUCH_UNREAD_BYTES = 1 << 16
_TURNS_REMEMBERED = 64
_GOODBYE_SECONDS = 1.0


@dataclass(slots=True)
class _Place:
    """How far the device has come in a turn, and what each of its events begins with."""

    turn: LiveTurn
    position: int
    head: bytes


class Device(KnownDevice):
    """Fits `domain.devices.Device`."""

    def __init__(
        self, socket: WebSocket, actions: Actions, caller: Caller, *, door: TokenDoor
    ) -> None:
        super().__init__(caller, door, Pace())
        self._socket = socket
        self._actions = actions
        self._joined: set[SessionId] = set()
        self._places: dict[TurnId, _Place] = {}
        self._known: deque[TurnId] = deque(maxlen=_TURNS_REMEMBERED)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._closing: tuple[CloseCode, str] | None = None
        self._writing_since: float | None = None
        self._writer: asyncio.Task[None] | None = None
        self._is_slow = False
        self._stops: set[asyncio.Task[None]] = set()
        self._unread: deque[Message] = deque()

    async def serve(self, ref: Ref) -> None:
        """Until one side closes."""
        self._tell_who(ref)
        writer = self._writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writer, reader, *self._stops):
                task.cancel()
            await asyncio.gather(writer, reader, *self._stops, return_exceptions=True)
            for turn_id in tuple(self._places):
                self._unfollow(turn_id)
            await self._actions.devices.gone(self)
        if self._is_slow:
            await self._say_goodbye(CloseCode.TOO_SLOW, "too_slow")
        elif (error := bug_of(reader) or bug_of(writer)) is not None:
            log.error("socket_failed", exc_info=error)
            await self._say_goodbye(CloseCode.FAILED, "internal_error")

    # What it is told.

    def tell(
        self,
        event: str,
        data: Any,
        *,
        ref: Ref = None,
        session_id: SessionId | None = None,
        turn_id: TurnId | None = None,
    ) -> None:
        message: dict[str, Any] = {"event": event}
        if ref is not None:
            message["ref"] = ref
        if session_id is not None:
            message["session_id"] = str(session_id)
        if turn_id is not None:
            message["turn_id"] = str(turn_id)
        message["data"] = data
        self._put(to_json(message))

    def begun(self, turn: LiveTurn) -> None:
        if turn.turn_id not in self._known:
            self._follow(turn, 0)

    def emitted(self, session_id: SessionId, message: bytes) -> None:
        self._put(
            b'{"event":"emitted","session_id":"%b","data":%b}' % (_ascii(session_id), message)
        )

    def close(self, code: CloseCode, reason: str) -> None:
        """After what waits has been written. The first reason counts."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake.set()

    def look(self) -> None:
        since, now = self._writing_since, time.monotonic()
        if since is not None and now - since > _PATIENCE_SECONDS:
            self._drop()
            return
        if self._left_of_token() <= 0:
            self.close(CloseCode.UNAUTHENTICATED, "token_expired")
        elif (expiry := self._expiry_to_tell()) is not None:
            self.tell("token_expiring", expiry)

    def _put(self, message: bytes) -> None:
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        if len(self._waiting) > _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES:
            self._drop()
        self._wake.set()

    def _drop(self) -> None:
        """It does not read, so it need not be told."""
        self._is_slow = True
        self._waiting.clear()
        if self._writer is not None:
            self._writer.cancel()

    def _tell_who(self, ref: Ref) -> None:
        self.tell("authenticated", self._who(), ref=ref)

    def _follow(self, turn: LiveTurn, after: int) -> None:
        self._unfollow(turn.turn_id)
        self._known.append(turn.turn_id)
        head = b'","session_id":"%b","turn_id":"%b","id":' % (
            _ascii(turn.session_id),
            _ascii(turn.turn_id),
        )
        self._places[turn.turn_id] = _Place(turn, after, head)
        turn.bell.call(self._wake.set)
        self._wake.set()

    def _unfollow(self, turn_id: TurnId) -> None:
        place = self._places.pop(turn_id, None)
        if place is not None:
            place.turn.bell.forget(self._wake.set)
            if isinstance(place.turn, SpokenTurn):
                place.turn.leave()

    # Writing.

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write_waiting()
            if self._closing is not None:
                code, reason = self._closing
                await self._socket.close(int(code), reason)
                return
            for place in list(self._places.values()):
                await self._write_events(place)

    async def _write_waiting(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message)
            await self._send(message)

    async def _write_events(self, place: _Place) -> None:
        is_over = place.turn.is_over
        if isinstance(place.turn, SpokenTurn):
            await self._write_audio(place.turn)
        for name, data in place.turn.said(place.position):
            place.position += 1
            await self._send(
                b'{"event":"%b%b%d,"data":%b}' % (name.encode(), place.head, place.position, data)
            )
            if self._waiting or self._closing is not None:
                # The rest of an answer has time; a word of the device's own does not.
                self._wake.set()
                return
        if is_over:
            self._unfollow(place.turn.turn_id)

    async def _write_audio(self, turn: SpokenTurn) -> None:
        ids = (_ascii(turn.session_id), _ascii(turn.turn_id))
        for name, data in turn.heard():
            event = b'{"event":"%b","session_id":"%b","turn_id":"%b","data":%b}'
            await self._send(event % (name.encode(), *ids, data))

    async def _send(self, message: bytes) -> None:
        """Returns when the connection takes more."""
        self._writing_since = time.monotonic()
        await self._socket.send({"type": "websocket.send", "text": message.decode()})
        self._writing_since = None

    async def _say_goodbye(self, code: CloseCode, reason: str) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._socket.close(int(code), reason)
        except (TimeoutError, RuntimeError, OSError):
            log.debug("socket_gone_already")

    # Reading.

    async def _left(self) -> None:
        """Returns once the connection is gone, or if it is. What the device says until then is kept
        for when its word before has been done."""
        while not self._unread or self._unread[-1]["type"] != "websocket.disconnect":
            unread = sum(map(length_of, self._unread))
            if len(self._unread) >= _MOST_UNREAD or unread >= _MUCH_UNREAD_BYTES:
                await asyncio.Event().wait()
            self._unread.append(await self._socket.receive())

    async def _read(self) -> None:
        while True:
            unread = self._unread
            message = unread.popleft() if unread else await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            heard: tuple[Word, Ref] | None = self._word_in(
                message, read_word, largest=LARGEST_FRAME_BYTES
            )
            if heard is not None:
                word, ref = heard
                await self._answered(self._do(word), ref, getattr(word, "session_id", None))

    async def _answered(
        self, work: Coroutine[Any, Any, None], ref: Ref, session_id: UUID | None
    ) -> None:
        try:
            await work
        except ExpectedFailure as failure:
            self._complain(failure, ref, SessionId(session_id) if session_id else None)

    def _complain(
        self, failure: ExpectedFailure, ref: Ref, session_id: SessionId | None = None
    ) -> None:
        self.tell("error", problem_of(failure)[1], ref=ref, session_id=session_id)

    async def _do(self, word: Word) -> None:
        match word:
            case Send():
                await self._ask(word)
            case Join():
                await self._join(word)
            case Stop():
                self._stop_beside(word)
            case Mute():
                self._mute(word)
            case Leave():
                await self._leave(SessionId(word.session_id), word.ref)
            case Emit():
                await self._emit(word)
            case Auth():
                await self._renew(word)
            case Ping():
                self.tell("pong", {}, ref=word.ref)

    async def _ask(self, word: Send) -> None:
        session_id = SessionId(word.session_id)
        self._require_room_for(session_id)
        body = word.model_copy(update={"stream": True})
        question = question_of(session_id, body, self._caller, word.idempotency_key)
        ask = self._actions.ask_live if question.speak is None else self._actions.ask_spoken
        asked = await ask(question, self._left)
        data: dict[str, Any] = {"replayed": asked.replayed}
        if asked.tier is not None and asked.tier != self._caller.identity.tier:
            # The token says another one: time for a new token.
            data["tier"] = asked.tier
        turn_id = asked.turn.turn_id
        self.tell("sent", data, ref=word.ref, session_id=session_id, turn_id=turn_id)
        if isinstance(asked.turn, SpokenTurn):
            self._follow(asked.turn, self._position_in(asked.turn))
        elif asked.replayed or turn_id not in self._known:
            self._follow(asked.turn, 0)
        # It is the user's own session: they may ask in it.
        await self._enter(session_id)

    def _position_in(self, turn: LiveTurn) -> int:
        """How far it has heard a turn of which its room may have told it before."""
        place = self._places.get(turn.turn_id)
        if place is not None:
            return place.position
        return len(turn.said(0)) if turn.turn_id in self._known else 0

    def _mute(self, word: Mute) -> None:
        session_id = SessionId(word.session_id)
        spoken = [
            place.turn
            for place in self._places.values()
            if isinstance(place.turn, SpokenTurn) and place.turn.session_id == session_id
        ]
        muted = [turn.turn_id for turn in spoken if turn.mute()]
        self.tell("muted", {"was_speaking": bool(muted)}, ref=word.ref, session_id=session_id)

    async def _join(self, word: Join) -> None:
        session_id = SessionId(word.session_id)
        follow, by = self._actions.follow_turn, self.user_id
        self._require_room_for(session_id)
        await self._actions.read_session(session_id, by=by)
        await self._enter(session_id)
        turn: LiveTurn | None = None
        is_named = word.after is not None or word.turn_id is not None
        if is_named:
            turn_id = TurnId(word.turn_id) if word.turn_id else None
            with suppress(NoTurn):
                turn = await follow(session_id, by=by, turn_id=turn_id, after=word.after or 0)
        # Asked last: one that ended meanwhile may have been heard to its end.
        running = await follow.running_in(session_id, by=by)
        turn = turn if is_named else running
        data = {"turn_id": str(turn.turn_id) if turn else None}
        self.tell("joined", data, ref=word.ref, session_id=session_id)
        # Whoever joins twice has heard the beginning already.
        if turn is not None and (word.after is not None or turn.turn_id not in self._places):
            self._follow(turn, word.after or 0)
        # What began while the device was away is heard whole, beside the turn that it left.
        if running is not None and running.turn_id not in self._places:
            self._follow(running, 0)

    async def _enter(self, session_id: SessionId) -> None:
        if session_id not in self._joined:
            self._joined.add(session_id)
            await self._actions.devices.join(self, session_id)

    def _require_room_for(self, session_id: SessionId) -> None:
        if session_id not in self._joined and len(self._joined) >= MOST_ROOMS:
            raise TooManyRooms

    async def _leave(self, session_id: SessionId, ref: Ref) -> None:
        self._joined.discard(session_id)
        await self._actions.devices.leave(self, session_id)
        for place in list(self._places.values()):
            if place.turn.session_id == session_id:
                self._unfollow(place.turn.turn_id)
        self.tell("left", {}, ref=ref, session_id=session_id)

    async def _emit(self, word: Emit) -> None:
        session_id = SessionId(word.session_id)
        if session_id not in self._joined:
            raise NotJoined
        try:
            message = to_json({"event": word.event, "data": word.data})
        except RecursionError as error:
            raise UnreadableMessage([{"field": "data", "rule": "too_deep"}]) from error
        if len(message) > LARGEST_EMITTED_BYTES:
            raise TooLarge(
                f"What is emitted may have {LARGEST_EMITTED_BYTES} bytes.",
                largest_bytes=LARGEST_EMITTED_BYTES,
            )
        await self._actions.emit_to_room(session_id, message)

    async def _renew(self, word: Auth) -> None:
        await self._show_again(word.token)
        self._tell_who(word.ref)

    def _stop_beside(self, word: Stop) -> None:
        """It may take seconds, in which the device can say other things."""
        if len(self._stops) >= _STOPS_AT_ONCE:
            raise TooFast
        task = asyncio.create_task(self._answered(self._stop(word), word.ref, word.session_id))
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    async def _stop(self, word: Stop) -> None:
        session_id = SessionId(word.session_id)
        ended = await self._actions.stop_turn(session_id, by=self.user_id)
        answer = answer_of(ended).model_dump(mode="json")
        self.tell("stopped", answer, ref=word.ref, session_id=session_id)


def _ascii(id_: UUID | None) -> bytes:
    return str(id_).encode()
