"""ElevenLabs' own socket for text that is still being written, `stream-input`, in its wire.

https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input

One socket is one speech. Its text is gathered here as the vendor gathers it, since each piece is
admitted to the user's limits before it is said.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from dataclasses import asdict
from typing import Annotated, Any, NoReturn
from uuid import UUID

import orjson
import structlog
from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from services.voice.actions import Actions
from services.voice.actions.live_utterance import Ending, LiveUtterance
from services.voice.actions.speak_live import LiveWish
from services.voice.api.dropin_door import KEY_HEADER
from services.voice.api.dropin_errors import error_response
from services.voice.api.dropin_speech_body import LANGUAGE, NAME, DropInSettings
from services.voice.api.outlet import Outlet
from services.voice.domain.errors import InputTimeout, SpeechEnded, SpeechStopped, UnreadableWords
from services.voice.domain.gathered_text import Gathering, Scheduled, WholeSentences
from services.voice.domain.piece import Piece
from services.voice.domain.script import LONGEST_TEXT, Extras, MannerWish
from services.voice.domain.speech import Outcome
from shared.close_codes import CloseCode
from shared.errors import (
    ExpectedFailure,
    SessionEnded,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)
from shared.http.caller import Caller, bearer_token, on_behalf_of
from shared.http.socket_door import FIRST_WORD_SECONDS, SocketDoor
from shared.ids import UserId
from shared.lenient_json import to_json
from shared.vendors.dropins import BadParameter
from shared.vendors.failures import VendorFailed

log = structlog.get_logger(__name__)

router = APIRouter()

_LARGEST_MESSAGE = 64 << 10
_SCHEDULE = (120.0, 160.0, 250.0, 290.0)
_DEFAULT_FORMAT = "mp3_44100_128"
_VIOLATION, _BROKEN = 1008, 1011
_GOODBYE_SECONDS = 30.0
# A token in an address would stand in logs.
_NEVER_IN_URL = ("authorization", "xi-api-key", "xi_api_key", "single_use_token")

_Step = Annotated[float, Field(ge=50, le=500)]


class _Query(BaseModel):
    """What the address says; names that we don't know are ignored, as the vendor does."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_id: str | None = Field(None, max_length=64, pattern=NAME)
    output_format: str = Field(_DEFAULT_FORMAT, max_length=32, pattern=NAME)
    language_code: str | None = Field(None, max_length=35, pattern=LANGUAGE)
    seed: int | None = Field(None, ge=0, le=4_294_967_295)
    inactivity_timeout: float = Field(20, gt=0, le=180)
    auto_mode: bool = False
    enable_logging: bool | None = None

    @property
    def extras(self) -> Extras | None:
        if self.enable_logging is None:
            return None
        return Extras(query=f"enable_logging={str(self.enable_logging).lower()}")


class _Generation(BaseModel):
    model_config = ConfigDict(extra="ignore")

    chunk_length_schedule: list[_Step] | None = Field(None, max_length=50)


class _Message(BaseModel):
    """What a client says; the first one may also tell how to speak, and show a token."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    text: str = Field(max_length=2 * LONGEST_TEXT)
    try_trigger_generation: bool | None = None
    flush: bool | None = None
    voice_settings: DropInSettings | None = None
    generation_config: _Generation | None = None
    key: str | None = Field(None, alias="xi-api-key", max_length=8192)
    old_key: str | None = Field(None, alias="xi_api_key", max_length=8192)
    authorization: str | None = Field(None, max_length=8192)

    @property
    def token(self) -> str | None:
        if self.authorization is not None:
            return bearer_token(self.authorization)
        return self.key or self.old_key


@router.websocket("/elevenlabs/v1/text-to-speech/{voice_id}/stream-input")
async def speak_along(socket: WebSocket, voice_id: str) -> None:
    """Let the client in, then speak what it says."""
    door = SocketDoor(socket)
    try:
        query = _query_of(socket)
        caller = await _shown_before(socket, door)
    except ExpectedFailure as failure:
        await socket.send_denial_response(error_response(failure))
        return
    try:
        await socket.accept()
        await _Along(socket, door, voice_id, query).serve(caller)
    except (WebSocketDisconnect, OSError):
        log.debug("socket_gone_already")


def _query_of(socket: WebSocket) -> _Query:
    """Raises BadParameter, or Unauthenticated for a token where none may be."""
    given = socket.query_params
    if any(name in given for name in _NEVER_IN_URL):
        raise Unauthenticated("A token is never part of the URL; send it in the header xi-api-key.")
    try:
        return _Query.model_validate(dict(given))
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise BadParameter(name, "as the vendor takes it") from error


async def _shown_before(socket: WebSocket, door: SocketDoor) -> Caller | None:
    key = socket.headers.get(KEY_HEADER, "").strip()
    if key and not socket.headers.get("authorization", "").strip():
        return await door.caller(key)
    return await door.shown_before()


class _Along:
    """Fits `actions.live_utterance.Hearer` and `domain.open_sockets.OpenSocket`."""

    def __init__(self, socket: WebSocket, door: SocketDoor, voice_id: str, query: _Query) -> None:
        self._socket = socket
        self._actions: Actions = socket.app.state.actions
        self._door = door
        self._voice_id = voice_id
        self._query = query
        self._outlet = Outlet(socket)
        self._caller: Caller | None = None
        self._utterance: LiveUtterance | None = None
        self._text: Gathering = WholeSentences()
        self._is_within_word = False
        self._refusal: ExpectedFailure | None = None
        self._close_code: int | None = None
        self._writer: asyncio.Task[None] | None = None
        self._is_slow = False

    @property
    def user_id(self) -> UserId:
        assert self._caller is not None
        return self._caller.identity.user_id

    @property
    def sign_in_id(self) -> UUID:
        assert self._caller is not None
        return self._caller.identity.sign_in_id

    async def serve(self, caller: Caller | None) -> None:
        """Until one side closes."""
        writer = self._writer = asyncio.create_task(self._outlet.write())
        try:
            try:
                await self._converse(caller)
            except ExpectedFailure as failure:
                self._fail(failure)
            await asyncio.wait({writer}, timeout=_GOODBYE_SECONDS)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            if self._is_slow:
                await self._outlet.say_goodbye(CloseCode.TOO_SLOW, "too_slow")

    async def _converse(self, caller: Caller | None) -> None:
        first = await self._next(FIRST_WORD_SECONDS if caller is None else None)
        if caller is None:
            if first.token is None:
                raise Unauthenticated("Send an access token as xi-api-key.")
            caller = await self._door.caller(first.token)
        self._caller = caller
        self._actions.open_sockets.open(self)
        try:
            await self._speak(caller, first)
        finally:
            self._actions.open_sockets.gone(self)

    async def _speak(self, caller: Caller, first: _Message) -> None:
        wish = LiveWish(
            self._wish(first),
            caller.tier,
            on_behalf_of(caller),
            strict_format=True,
            is_verbatim=True,
        )
        speech = await self._actions.speak_live(wish)
        speech.prepare()
        if not self._query.auto_mode:
            config = first.generation_config or _Generation(chunk_length_schedule=None)
            self._text = Scheduled(config.chunk_length_schedule or _SCHEDULE)
        utterance = self._utterance = LiveUtterance(speech, self._text)
        reader = asyncio.create_task(self._read(utterance, first))
        try:
            await utterance(self)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _wish(self, first: _Message) -> MannerWish:
        settings = first.voice_settings or DropInSettings()
        return MannerWish(
            voice_id=self._voice_id,
            model=self._query.model_id,
            format=self._query.output_format,
            settings=settings.to_wish(),
            language_code=self._query.language_code,
            seed=self._query.seed,
            extras=self._query.extras,
        )

    # What the client says.

    async def _read(self, utterance: LiveUtterance, first: _Message) -> None:
        try:
            message = first
            while True:
                self._take(utterance, message)
                if message.text == "" and message is not first:
                    break
                message = await self._next(None)
            # The rest is listening.
            while (await self._socket.receive())["type"] != "websocket.disconnect":
                pass
            utterance.stop(Outcome.CLIENT_GONE)
        except SpeechEnded:
            return
        except (WebSocketDisconnect, OSError):
            utterance.stop(Outcome.CLIENT_GONE)
        except ExpectedFailure as failure:
            if not utterance.is_complete:  # else no words are waited for any more
                self._refusal = failure
                utterance.stop(Outcome.STOPPED)
        except Exception:
            # A bug of ours must not leave the speech waiting for words that nobody hears.
            log.exception("listening_failed")
            utterance.stop(Outcome.STOPPED)

    def _take(self, utterance: LiveUtterance, message: _Message) -> None:
        if message.text.strip():
            if message.try_trigger_generation and isinstance(self._text, Scheduled):
                self._text.is_hurried = True
            utterance.add(message.text)
        elif message.text and self._is_within_word:
            # A space by itself keeps the socket open; after a word it parts that from the next.
            utterance.add(message.text)
        self._is_within_word = not message.text[-1:].isspace()
        if message.flush:
            utterance.flush()
        if message.text == "":
            utterance.complete()

    async def _next(self, within: float | None) -> _Message:
        """Raises WebSocketDisconnect, or a failure that ends the conversation."""
        try:
            async with asyncio.timeout(within or self._query.inactivity_timeout):
                received = await self._socket.receive()
        except TimeoutError as error:
            raise InputTimeout from error
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", 1006))
        text = received.get("text")
        if text is None or len(text) > _LARGEST_MESSAGE:
            raise UnreadableWords("A message is text of at most 64 KiB.")
        return _message(text)

    # What it hears.

    async def hear(self, piece: Piece) -> None:
        frame = {
            "audio": b64encode(piece.audio).decode(),
            "isFinal": None,
            "alignment": _alignment(piece),
            "normalizedAlignment": None,
        }
        await self._outlet.hand(orjson.dumps(frame).decode())

    def admitted(self) -> None: ...

    def refused(self, failure: ExpectedFailure) -> None:
        self._refusal = failure

    def over(self, ending: Ending) -> None:
        failure = self._refusal or ending.failure
        if failure is not None:
            self._fail(failure)
        elif ending.outcome is Outcome.DONE:
            self._outlet.tell('{"isFinal":true,"audio":null}')
            self._outlet.close(1000, "")
        else:
            assert self._utterance is not None
            usage = None if ending.used is None else asdict(ending.used)
            self._fail(SpeechStopped(self._utterance.speech.hold.id, usage))

    def _fail(self, failure: ExpectedFailure) -> None:
        """Over an open socket a refusal is an error frame and a close code."""
        detail = orjson.loads(bytes(error_response(failure).body))["detail"]
        broken = isinstance(failure, VendorFailed | UpstreamFailed | Unavailable)
        code = self._close_code or (_BROKEN if broken else _VIOLATION)
        frame = {"message": detail["message"], "error": detail["status"], "code": code}
        self._outlet.tell(to_json(frame).decode())
        # A close frame has room for 123 bytes of reason.
        self._outlet.close(code, detail["message"].encode()[:120].decode(errors="ignore"))

    # What it is told from outside.

    def close(self, code: CloseCode, reason: str) -> None:
        """What speaks is stopped, which is told before the socket is closed."""
        self._close_code = int(code)
        if self._utterance is None:
            self._outlet.close(int(code), reason)
            return
        if code is CloseCode.UNAUTHENTICATED:
            self._refusal = SessionEnded()
        self._utterance.stop(Outcome.STOPPED)

    def look(self) -> None:
        assert self._caller is not None
        if self._outlet.is_stuck():
            self._is_slow = True
            if self._utterance is not None:
                self._utterance.stop(Outcome.CLIENT_GONE)
            if self._writer is not None:
                self._writer.cancel()
        elif self._caller.identity.expires_at <= time.time():
            self._run_out()

    def _run_out(self) -> None:
        """The token is no longer good: no more is said, and what was said is spoken to its end."""
        utterance = self._utterance
        if utterance is not None and not utterance.is_complete:
            self._refusal = Unauthenticated("The access token has expired. Connect again.")
            utterance.complete()


def _message(text: str) -> _Message:
    try:
        found = orjson.loads(text)
        if isinstance(found, dict):
            return _Message.model_validate(found)
    except orjson.JSONDecodeError as error:
        raise UnreadableWords("The message is no JSON.") from error
    except ValidationError as error:
        _refuse(error)
    raise UnreadableWords("The message is not a JSON object.")


def _refuse(error: ValidationError) -> NoReturn:
    """Where it is wrong, never what was sent."""
    place = ".".join(str(part) for part in error.errors()[0]["loc"][:3])
    raise UnreadableWords(f"{place[:80]} is not valid.") from None


def _alignment(piece: Piece) -> dict[str, Any] | None:
    """Times in milliseconds from the beginning of the piece."""
    found = piece.alignment
    if found is None:
        return None
    starts = [round(start * 1000) for start in found.starts]
    ends = [round(end * 1000) for end in found.ends]
    return {
        "chars": list(found.characters),
        "charStartTimesMs": starts,
        "charDurationsMs": [end - start for start, end in zip(starts, ends, strict=False)],
    }
