"""`WS /internal/speech`: chat has an answer spoken while it is written; on the internal port only.

Chat shows who it is (`Authorization`) and for whom it asks (the user's own access token), says the
manner, that the first sentence has begun, then sentence after sentence. It hears frames of a name
and JSON: `ready` or `refused` first, `audio` as it comes, and one last: `audio_end`, or
`audio_error` when audio is missing. What is in them is what the user's device hears, so chat passes
them on as they are.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import structlog
from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocketDisconnect

from services.voice.actions import Actions
from services.voice.actions.speak_live import LiveSpeech, LiveWish
from services.voice.domain.errors import SpeechEnded
from services.voice.domain.piece import Piece
from services.voice.domain.script import MannerWish, SettingsWish
from services.voice.domain.speech import Outcome
from shared.errors import ExpectedFailure, Forbidden, Unauthenticated
from shared.http.caller import Caller, bearer_token, on_behalf_of
from shared.http.errors import problem_of, respond
from shared.http.socket_door import FIRST_WORD_SECONDS, SocketDoor
from shared.identity import USER_HEADER, Peers
from shared.lenient_json import to_json
from shared.vendors.failures import VendorFailed

log = structlog.get_logger(__name__)

router = APIRouter(tags=["speech"])

_NORMAL = 1000
_GOING_AWAY = 1012
_PROTOCOL_ERROR = 1002
_MOST_UNTOLD = 1_000  # sentences: more than are written while a line to the vendor opens


class _Word(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Settings(_Word):
    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: float | None = None


class _Manner(_Word):
    """Who speaks, and how. What a user may say there, chat has checked."""

    op: Literal["manner"]
    voice_id: str
    model: str | None = None
    format: str | None = None
    settings: _Settings = Field(default_factory=_Settings)
    session_id: UUID | None = None  # whose answer it is

    def to_wish(self) -> MannerWish:
        return MannerWish(
            voice_id=self.voice_id,
            model=self.model,
            format=self.format,
            settings=SettingsWish(**self.settings.model_dump()),
        )


class _Prepare(_Word):
    """The first sentence is being written: make ready to speak it."""

    op: Literal["prepare"]


class _Say(_Word):
    """The next sentence."""

    op: Literal["say"]
    text: str


class _Finish(_Word):
    """There are no more sentences."""

    op: Literal["finish"]


class _Stop(_Word):
    """Be silent now."""

    op: Literal["stop"]


_Said: TypeAlias = _Manner | _Prepare | _Say | _Finish | _Stop
_WORDS: TypeAdapter[_Said] = TypeAdapter(Annotated[_Said, Field(discriminator="op")])


class _NotUnderstood(Exception):
    """What came is no word of ours."""


@router.websocket("/internal/speech")
async def speak(socket: WebSocket) -> None:
    """Let chat in, then speak for it until one side closes."""
    try:
        caller = await _let_in(socket)
    except ExpectedFailure as failure:
        await socket.send_denial_response(respond(failure))
        return
    await socket.accept()
    code = _NORMAL
    try:
        await _serve(socket, caller)
    except (WebSocketDisconnect, OSError):
        log.debug("line_gone")
    except _NotUnderstood:
        code = _PROTOCOL_ERROR
    with suppress(RuntimeError, OSError):
        await socket.close(code)


async def _let_in(socket: WebSocket) -> Caller:
    """Whose answer it is. Raises Unauthenticated, Forbidden, ScopeMissing or Unavailable."""
    peers: Peers = socket.app.state.peers
    name = peers.service_of(bearer_token(socket.headers.get("authorization")))
    if name != "chat":
        raise Forbidden(f"{name} may not call this.")
    token = socket.headers.get(USER_HEADER)
    if token is None:
        raise Unauthenticated("Whose answer is it?")
    return await SocketDoor(socket).caller(token)


async def _serve(socket: WebSocket, caller: Caller) -> None:
    async with asyncio.timeout(FIRST_WORD_SECONDS):
        first = await _heard(socket)
    if not isinstance(first, _Manner):
        raise _NotUnderstood
    actions: Actions = socket.app.state.actions
    try:
        by, session_id = on_behalf_of(caller), first.session_id
        wish = LiveWish(first.to_wish(), caller.tier, by, session_id=session_id, is_beside=True)
        speech = await actions.speak_live(wish)
    except ExpectedFailure as failure:
        await socket.send_text(_frame("refused", {"problem": problem_of(failure)[1]}))
        return
    await _Line(socket, speech).serve()


async def _heard(socket: WebSocket) -> _Said:
    try:
        return _WORDS.validate_json(await socket.receive_text())
    except (ValidationError, KeyError) as error:
        raise _NotUnderstood from error


class _Line:
    """One answer's speech: words are heard in one task, told the vendor in another, and audio goes
    out in a third. So whoever wants silence, or goes, is heard while a line to the vendor opens."""

    def __init__(self, socket: WebSocket, speech: LiveSpeech) -> None:
        self._socket = socket
        self._speech = speech
        self._sentences = _Sentences()
        self._untold: asyncio.Queue[_Say | _Finish] = asyncio.Queue(_MOST_UNTOLD)
        self._failure: ExpectedFailure | None = None
        self._seq = 0

    async def serve(self) -> None:
        """Until all is spoken. Whatever ends it, what was said is settled."""
        outcome = Outcome.STOPPED  # stands when we are cancelled: the process is going down
        try:
            # A voice of the release before knows no `prepare`, so chat has to be told.
            await self._tell("ready", {"prepares": True})
            outcome = await self._spoken()
        except (WebSocketDisconnect, OSError):
            outcome = Outcome.CLIENT_GONE
        finally:
            await self._speech.conclude(outcome)
        await self._tell_end()

    async def _spoken(self) -> Outcome:
        at_work = [asyncio.create_task(self._listen()), asyncio.create_task(self._tell_vendor())]
        try:
            while (piece := await self._speech.read()).audio:
                await self._pass_on(piece)
        except ExpectedFailure as failure:
            self._failure = self._failure or failure
            return self._outcome_of(failure)
        finally:
            for task in at_work:
                task.cancel()
            await asyncio.wait(at_work)
        return Outcome.DONE

    def _outcome_of(self, failure: ExpectedFailure) -> Outcome:
        failed = isinstance(failure, VendorFailed) or self._speech.is_heard
        return Outcome.PROVIDER_FAILED if failed else Outcome.REFUSED

    async def _listen(self) -> None:
        """What chat says, until there is no more of it or the line ends."""
        try:
            while True:
                word = await _heard(self._socket)
                if isinstance(word, _Say | _Finish):
                    await self._untold.put(word)
                elif isinstance(word, _Prepare):
                    self._speech.prepare()
                elif isinstance(word, _Stop):
                    self._speech.end(Outcome.STOPPED)
        except WebSocketDisconnect as gone:
            leaves = gone.code == _GOING_AWAY
            self._speech.end(Outcome.STOPPED if leaves else Outcome.CLIENT_GONE)
        except _NotUnderstood:
            log.warning("line_not_understood")
            self._speech.end(Outcome.STOPPED)
        except Exception:
            # A bug of ours must not leave the reader waiting for words that nobody hears.
            log.exception("listening_failed")
            self._speech.end(Outcome.STOPPED)

    async def _tell_vendor(self) -> None:
        """What was heard, in its order."""
        try:
            while True:
                word = await self._untold.get()
                if isinstance(word, _Finish):
                    await self._finish()
                elif self._failure is None:
                    await self._say(word.text)
        except Exception:
            log.exception("telling_failed")  # as above
            self._speech.end(Outcome.STOPPED)

    async def _say(self, text: str) -> None:
        before = self._speech.characters
        try:
            await self._speech.say(text)
        except SpeechEnded:
            return  # by somebody else, who had a reason
        except ExpectedFailure as failure:
            self._failure = failure
            if before and self._speech.characters == before:
                # Only this text is refused: what was said before is spoken to its end.
                await self._finish()
            else:
                self._speech.end(self._outcome_of(failure))
        else:
            self._sentences.said(text)

    async def _finish(self) -> None:
        try:
            await self._speech.finish()
        except ExpectedFailure as failure:
            self._failure = self._failure or failure
            self._speech.end(self._outcome_of(failure))

    async def _pass_on(self, piece: Piece) -> None:
        sentence, characters = self._sentences.spoken(piece)
        self._seq += 1
        await self._tell(
            "audio",
            {
                "seq": self._seq,
                "audio_base64": b64encode(piece.audio).decode(),
                "format": self._speech.manner.format.name,
                "sentence": sentence,
                "characters": characters,
            },
        )

    async def _tell_end(self) -> None:
        speech = self._speech
        told: dict[str, Any] = {
            "speech_id": str(speech.hold.id) if speech.characters else None,
            "characters": speech.used.characters if speech.used else 0,
            "outcome": speech.ended_as,
        }
        with suppress(WebSocketDisconnect, OSError, RuntimeError):
            if self._failure is None:
                await self._tell("audio_end", told)
            else:
                problem = problem_of(self._failure)[1]
                await self._tell("audio_error", {"problem": problem, **told})

    async def _tell(self, event: str, data: dict[str, Any]) -> None:
        await self._socket.send_text(_frame(event, data))


class _Sentences:
    """Which sentence a piece of audio belongs to, as far as the vendor tells what it speaks."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._heard = 0

    def said(self, text: str) -> None:
        # Each text is followed by a space on its way, which the vendor counts too.
        self._ends.append((self._ends[-1] if self._ends else 0) + len(text.strip()) + 1)

    def spoken(self, piece: Piece) -> tuple[int, int | None]:
        """The sentence's number, from 1, and how many characters the piece speaks if that is
        known."""
        count = len(self._ends)
        if piece.alignment is None:
            return max(1, count), None
        at, characters = self._heard, len(piece.alignment.characters)
        self._heard += characters
        number = next((n for n, end in enumerate(self._ends, 1) if at < end), count)
        return max(1, number), characters


def _frame(event: str, data: dict[str, Any]) -> str:
    return f"{event} {to_json(data).decode()}"
