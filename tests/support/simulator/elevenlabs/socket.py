"""The WebSocket that takes text while it speaks (`stream-input`)."""

import asyncio
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import orjson
from aiohttp import WSMsgType, web

from tests.support.simulator import connections
from tests.support.simulator.answers import count_tokens
from tests.support.simulator.audio import SECONDS_PER_CHARACTER
from tests.support.simulator.call import Call
from tests.support.simulator.elevenlabs.models import DEFAULT
from tests.support.simulator.elevenlabs.speech import (
    DEFAULT_FORMAT,
    Order,
    check_format,
    speaking_model,
)
from tests.support.simulator.elevenlabs.studio import Studios
from tests.support.simulator.elevenlabs.voices import find_voice
from tests.support.simulator.keys import Verdict, judge
from tests.support.simulator.ledger import Served
from tests.support.simulator.options import SILENCES, Options, UnknownOption, read_directives
from tests.support.simulator.refusals import Refusal, Vanished
from tests.support.simulator.wire import dump

_VIOLATION: Final = 1008
_BROKEN: Final = 1011
_SCHEDULE: Final = (120, 160, 250, 290)
_SHORTEST_TRIGGER: Final = 50
_DEFAULT_PATIENCE: Final = 20.0
_LONGEST_PATIENCE: Final = 180.0
#: Less than other ways in take.
_SLOWEST: Final = 0.7
_FASTEST: Final = 1.2
_STALL_MS: Final = 600_000
_WORDS_IN_A_CHUNK: Final = 5


class Ended(Exception):
    """The conversation is over, and the reason was already said."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What is wrong with the request itself is said before the upgrade, as plain HTTP."""

    studios: Studios

    async def listen(self, call: Call) -> web.StreamResponse:
        find_voice(self.studios.of(call.key_sha256), call.request.match_info["voice"])
        return await converse(call, Conversation)


async def converse(call: Call, kind: type["Conversation"]) -> web.StreamResponse:
    """Over a socket that is opened now."""
    query = call.request.query
    order = Order(
        "",
        speaking_model(query.get("model_id", DEFAULT)),
        query.get("output_format", DEFAULT_FORMAT),
    )
    check_format(order.format, call, streams=True)
    await call.pause_before_first_byte()
    socket = call.response = web.WebSocketResponse()
    await socket.prepare(call.request)
    with suppress(Ended):
        await kind(call, socket, order).hold()
    return socket


@dataclass(slots=True)
class Buffer:
    """Text that waits until there is enough of it for a piece of speech."""

    schedule: tuple[int, ...] = _SCHEDULE
    speaks_at_once: bool = False
    text: str = ""
    taken: int = 0

    def has_enough(self, *, hurried: bool) -> bool:
        enough = self.schedule[min(self.taken, len(self.schedule) - 1)]
        if hurried:
            enough = min(enough, _SHORTEST_TRIGGER)
        return bool(self.text) and (self.speaks_at_once or len(self.text) >= enough)

    def take(self) -> str:
        text, self.text = self.text, ""
        self.taken += bool(text)
        return text


@dataclass(slots=True)
class Conversation:
    call: Call
    socket: web.WebSocketResponse
    #: Holds the model and the format; the text comes piece by piece.
    order: Order
    buffer: Buffer = field(default_factory=Buffer)
    characters: int = 0
    options: Options = field(default_factory=Options)
    accident: str | None = None

    async def hold(self) -> None:
        self.call.promise(self.call.request_id, {}, lambda _: self._usage())
        self._adopt(self.call.options)
        if not self._is_supported():
            await self._fail("unsupported_model", f"{self.order.model.id} is not supported here.")
        await self._greet(await self._hear())
        while not self._is_last(message := await self._hear()):
            await self._take(message)
        await self._speak()
        await self._have_accident()
        self.call.promise(self.call.request_id, self._usage())
        self.call.finish("completed")
        await self.socket.send_str(dump(self._final()).decode())
        await self.socket.close()

    def _is_supported(self) -> bool:
        return self.order.model.takes_socket

    def _is_last(self, message: dict[str, Any]) -> bool:
        return bool(message.get("text", "") == "")

    def _final(self) -> dict[str, Any]:
        return {"isFinal": True, "audio": None}

    @property
    def _served(self) -> Served:
        assert self.call.served is not None, "A socket costs money."
        return self.call.served

    def _adopt(self, asked: Options) -> None:
        self.options = asked.over(self.options)
        self.accident = asked.disruption or self.accident

    async def _hear(self) -> dict[str, Any]:
        """The next message; silence and nonsense end the conversation."""
        try:
            received = await self.socket.receive(timeout=self._patience())
        except TimeoutError:
            await self._fail("input_timeout_exceeded", "No new text input within the timeout.")
        if received.type is not WSMsgType.TEXT:
            self.call.finish("client_gone")
            raise Ended
        try:
            message = orjson.loads(received.data)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            await self._fail("invalid_message", "The message is not a JSON object.")
        return message

    def _patience(self) -> float:
        asked = self.call.request.query.get("inactivity_timeout", "")
        try:
            return min(float(asked), _LONGEST_PATIENCE)
        except ValueError:
            return _DEFAULT_PATIENCE

    async def _greet(self, first: dict[str, Any]) -> None:
        """The first message may bring the key that the upgrade did not."""
        await self._let_in(first)
        speed = (first.get("voice_settings") or {}).get("speed", 1.0)
        if not isinstance(speed, int | float) or not _SLOWEST <= speed <= _FASTEST:
            await self._fail("invalid_voice_settings", "speed must be between 0.7 and 1.2.")
        config = first.get("generation_config") or {}
        schedule = tuple(config.get("chunk_length_schedule") or _SCHEDULE)
        if any(not 50 <= length <= 500 for length in schedule):
            await self._fail("invalid_chunk_length_schedule", "Items must be from 50 to 500.")
        at_once = self.call.request.query.get("auto_mode") == "true"
        self.buffer = Buffer(schedule, at_once)
        await self._take(first)

    async def _let_in(self, first: dict[str, Any]) -> None:
        if self.call.key is None:
            self.call.take_key(first.get("xi-api-key") or first.get("xi_api_key"))
            verdict = judge(self.call.key, generates=True)
            if verdict is Verdict.RESET:
                await self._drop("reset")
            if verdict is not Verdict.GOOD:
                await self._refuse(self.call.vendor.refusal(verdict, self.call))

    async def _take(self, message: dict[str, Any]) -> None:
        await self._gather(str(message.get("text", "")))
        hurried = message.get("try_trigger_generation") is True
        if message.get("flush") is True or self.buffer.has_enough(hurried=hurried):
            await self._speak()

    async def _gather(self, text: str) -> None:
        if text.strip():
            await self._obey(text)
            self.buffer.text += text
            self.characters += len(text)

    async def _obey(self, text: str) -> None:
        try:
            _, asked = read_directives(text)
        except UnknownOption as unknown:
            await self._fail("invalid_message", str(unknown))
        self._adopt(asked)
        kind = asked.get("fault")
        if kind is None:
            return
        self._served.fault = kind
        if kind in SILENCES:
            await self._drop("reset" if kind == "connection_reset" else "cut")
        if asked.disruption is None:
            await self._refuse(self.call.refusal_of(kind))

    async def _speak(self) -> None:
        text = self.buffer.take()
        if not text:
            return
        order = Order(text, self.order.model, self.order.format)
        wanted = self.options.number("chunks") or max(1, count_tokens(text) // _WORDS_IN_A_CHUNK)
        segments = order.segments(wanted)
        pieces = order.clip().pieces(len(segments))
        fateful = self.options.number("at", self._served.chunks + len(segments) // 2)
        for position, (segment, piece) in enumerate(zip(segments, pieces, strict=True)):
            await self._pause(first=position == 0)
            if self._served.chunks == fateful:
                await self._have_accident()
            await self.socket.send_str(self._audio(segment, piece))
            self._served.chunks += 1

    async def _pause(self, *, first: bool) -> None:
        delay = self.options.seconds("first_byte_delay_ms" if first else "chunk_delay_ms")
        if delay:
            await asyncio.sleep(delay)

    def _audio(self, text: str, audio: bytes) -> str:
        """Times are relative to this chunk."""
        step = round(SECONDS_PER_CHARACTER * 1000)
        times = {
            "chars": list(text),
            "charStartTimesMs": [position * step for position in range(len(text))],
            "charDurationsMs": [step] * len(text),
        }
        message = {
            "audio": b64encode(audio).decode(),
            "isFinal": None,
            "alignment": None if "odd" in self.options else times,
            "normalizedAlignment": None,
        }
        return dump(message).decode()

    async def _have_accident(self) -> None:
        """The accident that was asked for, if it has not happened yet."""
        kind, self.accident = self.accident, None
        if kind == "stall":
            await asyncio.sleep(self.options.seconds("stall_ms", _STALL_MS))
        elif kind in ("cut", "reset"):
            await self._drop(kind)
        elif kind == "truncate":
            self.call.finish("cut")
            await self.socket.close()
            raise Ended
        elif kind is not None:
            await self._fail("internal_server_error", "Something went wrong.", code=_BROKEN)

    async def _drop(self, kind: str) -> NoReturn:
        self.call.finish("cut")
        if kind == "reset":
            await connections.reset(self.call.request)
        else:
            await connections.hang_up(self.call.request)
        raise Vanished

    async def _refuse(self, refusal: Refusal) -> NoReturn:
        """Over an open socket a refusal is an error frame and a close code."""
        detail = refusal.body.get("detail") if isinstance(refusal.body, dict) else None
        if not isinstance(detail, dict):
            detail = {"status": "error", "message": "The simulator was asked to refuse this."}
        await self._fail(detail["status"], detail["message"], status=refusal.status)

    async def _fail(
        self, error: str, message: str, *, code: int = _VIOLATION, status: int = 200
    ) -> NoReturn:
        self.call.finish("error", status)
        frame = {"message": message, "error": error, "code": code}
        await self.socket.send_str(dump(frame).decode())
        # A close frame has room for 123 bytes of reason.
        await self.socket.close(code=code, message=message.encode()[:120])
        raise Ended

    def _usage(self) -> dict[str, int]:
        return {"characters": self.characters, "credits": self.order.model.cost(self.characters)}
