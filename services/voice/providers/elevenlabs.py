"""ElevenLabs' wire: https://elevenlabs.io/docs/api-reference"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson

from services.voice.domain.piece import Alignment, Piece
from services.voice.domain.ports import Audio, SpeechAhead, TimedAudio
from services.voice.domain.script import VENDOR, Script
from services.voice.domain.speech_model import speech_model
from services.voice.domain.voice import Voice, VoiceId, VoiceSettings
from services.voice.providers.elevenlabs_errors import failure_of
from services.voice.providers.elevenlabs_voice_wire import voice_from_wire
from shared.clients.egress import Egress, VendorAnswer, VendorCall, VendorConnectionLost
from shared.identity import OnBehalfOf
from shared.values import dataclass
from shared.vendors.failures import VendorFailed

_ERROR_WITHIN = timedelta(seconds=5)
_LARGEST_LINE = 64 << 20
_LARGEST_CHARACTER_COST = 1_000_000
_REQUEST_ID = re.compile(r"[!-~]{1,200}\Z")
_NEIGHBOURS = ("previous_text", "next_text", "previous_request_ids", "next_request_ids")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the vendor may keep us waiting: for its first byte, and between two pieces."""

    first_byte: timedelta = timedelta(seconds=60)
    silence: timedelta = timedelta(seconds=30)


class ElevenLabs:
    """Speech and voices, with the user's key added on the way by the egress."""

    def __init__(self, egress: Egress, patience: Patience | None = None) -> None:
        self._egress = egress
        self._patience = patience or Patience()

    @asynccontextmanager
    async def speak(self, script: Script, *, by: OnBehalfOf) -> AsyncIterator[Audio]:
        async with self._good(self._speech(script, by), speech_path(script)) as answer:
            yield _Stream(answer, self._patience.silence)

    @asynccontextmanager
    async def speak_timed(self, script: Script, *, by: OnBehalfOf) -> AsyncIterator[TimedAudio]:
        path = speech_path(script, timed=True)
        async with self._good(self._speech(script, by, timed=True), path) as answer:
            yield _TimedStream(answer, self._patience.silence)

    def ahead(self, script: Script, *, by: OnBehalfOf) -> SpeechAhead | None:
        if not self._egress.has_free():
            return None
        call = self._speech(script, by, timed=script.is_timed)
        return _Ahead(self, script, call) if call.go_ahead() else None

    async def voices(self, *, by: OnBehalfOf) -> Sequence[Voice]:
        found = (await self._read("/v1/voices", by)).get("voices")
        if not isinstance(found, list):
            raise VendorFailed(VENDOR)
        voices = [voice_from_wire(wire) for wire in found]
        return [voice for voice in voices if voice is not None]

    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice:
        voice = voice_from_wire(await self._read(f"/v1/voices/{voice_id}", by))
        if voice is None:
            raise VendorFailed(VENDOR)
        return voice

    async def settings_of(self, voice_id: VoiceId, *, by: OnBehalfOf) -> VoiceSettings:
        wire = await self._read(f"/v1/voices/{voice_id}/settings", by)
        default = VoiceSettings()
        return VoiceSettings(
            stability=_number(wire, "stability", default.stability),
            similarity_boost=_number(wire, "similarity_boost", default.similarity_boost),
            style=_number(wire, "style", default.style),
            use_speaker_boost=wire.get("use_speaker_boost") is True,
            speed=_number(wire, "speed", 1.0),
        )

    async def _read(self, path: str, by: OnBehalfOf) -> Mapping[str, Any]:
        async with self._good(self._call("GET", path, by), path) as answer:
            try:
                wire = orjson.loads(await answer.read(within=self._patience.silence))
            except orjson.JSONDecodeError as error:
                raise VendorFailed(VENDOR) from error
        if not isinstance(wire, dict):
            raise VendorFailed(VENDOR)
        return wire

    def _speech(self, script: Script, by: OnBehalfOf, *, timed: bool = False) -> VendorCall:
        return self._call("POST", speech_path(script, timed=timed), by, speech_body(script))

    def _call(
        self, method: str, path: str, by: OnBehalfOf, body: Mapping[str, Any] | None = None
    ) -> VendorCall:
        return self._egress.call(
            method,
            VENDOR,
            path,
            by=by,
            body=None if body is None else orjson.dumps(body),
            first_byte_within=self._patience.first_byte,
        )

    @asynccontextmanager
    async def _good(self, call: VendorCall, path: str) -> AsyncIterator[VendorAnswer]:
        """The vendor's answer when it is a good one; else the failure that it stands for."""
        try:
            async with call as answer:
                if answer.status != 200:
                    error = await _error_body(answer)
                    raise failure_of(answer.status, error, answer.headers, path)
                yield answer
        except VendorConnectionLost as lost:
            raise VendorFailed(VENDOR, billed=lost.sent) from lost

    @asynccontextmanager
    async def _spoken(self, script: Script, call: VendorCall) -> AsyncIterator[Audio | TimedAudio]:
        path, silence = speech_path(script, timed=script.is_timed), self._patience.silence
        async with self._good(call, path) as answer:
            yield _TimedStream(answer, silence) if script.is_timed else _Stream(answer, silence)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A call whose head went ahead."""

    vendor: ElevenLabs
    script: Script
    call: VendorCall

    def speak(self) -> AbstractAsyncContextManager[Audio | TimedAudio]:
        return self.vendor._spoken(self.script, self.call)

    def leave(self) -> None:
        self.call.leave()


class _Stream:
    """Audio on its way from the vendor."""

    def __init__(self, answer: VendorAnswer, silence: timedelta) -> None:
        self._answer = answer
        self._silence = silence
        self.characters = character_cost(answer.headers)
        self.request_id = request_id_in(answer.headers)

    async def read(self) -> bytes:
        try:
            return await self._answer.read_some(within=self._silence)
        except VendorConnectionLost as lost:
            raise VendorFailed(VENDOR) from lost


class _TimedStream:
    """Audio and its times on their way from the vendor: one JSON object a line."""

    def __init__(self, answer: VendorAnswer, silence: timedelta) -> None:
        self._audio = _Stream(answer, silence)
        self.characters, self.request_id = self._audio.characters, self._audio.request_id
        self._lines: list[bytes] = []
        self._begun: list[bytes] = []  # of the line that is coming
        self._begun_bytes = 0
        self._is_over = False

    async def read(self) -> Piece:
        while True:
            while not self._lines:
                if self._is_over:
                    return Piece(b"")
                await self._receive()
            piece = _timed_piece(self._lines.pop(0))
            if piece.audio or piece.alignment is not None:
                return piece

    async def _receive(self) -> None:
        data = await self._audio.read()
        self._is_over = not data
        *whole, rest = data.split(b"\n")
        if whole or self._is_over:
            self._begun.append(whole.pop(0) if whole else b"")
            lines = (b"".join(self._begun), *whole)
            self._lines = [line for line in lines if line.strip()]
            self._begun, self._begun_bytes = [], 0
        self._begun.append(rest)
        self._begun_bytes += len(rest)
        if self._begun_bytes > _LARGEST_LINE:
            raise VendorFailed(VENDOR)


def _timed_piece(line: bytes) -> Piece:
    try:
        wire = orjson.loads(line)
        audio = binascii.a2b_base64(wire.get("audio_base64") or "")
        normalized = _alignment(wire.get("normalized_alignment"))
        return Piece(audio, _alignment(wire.get("alignment")), normalized)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise VendorFailed(VENDOR) from error


def _alignment(wire: Any) -> Alignment | None:
    if wire is None:
        return None
    starts, ends = (
        [float(time) for time in wire[f"character_{which}_times_seconds"]]
        for which in ("start", "end")
    )
    characters = [str(character) for character in wire["characters"]]
    if not len(characters) == len(starts) == len(ends):
        raise ValueError("times that do not fit their characters")
    return Alignment(characters, starts, ends)


def speech_path(script: Script, *, timed: bool = False) -> str:
    """Where the vendor is asked for it."""
    stream = "/stream" if script.format.is_live else ""
    times = "/with-timestamps" if timed else ""
    voice_id, format_ = script.voice_id, script.format.name
    extras = script.extras
    further = f"&{extras.query}" if extras is not None and extras.query else ""
    return f"/v1/text-to-speech/{voice_id}{stream}{times}?output_format={format_}{further}"


def settings_body(settings: VoiceSettings) -> dict[str, Any]:
    """How the vendor is told how to speak."""
    body: dict[str, Any] = {
        "stability": settings.stability,
        "similarity_boost": settings.similarity_boost,
        "style": settings.style,
        "use_speaker_boost": settings.use_speaker_boost,
    }
    return body if settings.speed is None else {**body, "speed": settings.speed}


def speech_body(script: Script) -> dict[str, Any]:
    """What the vendor is asked to say, and how."""
    model = speech_model(script.model)
    body: dict[str, Any] = {
        "text": script.text,
        "model_id": script.model,
        "voice_settings": settings_body(script.settings),
    }
    if script.language_code is not None and model.takes_language:
        body["language_code"] = script.language_code
    if script.seed is not None:
        body["seed"] = script.seed
    if model.takes_context:
        around = {"previous_text": script.before, "next_text": script.after}
        body |= {name: text for name, text in around.items() if text}
    return body if script.extras is None else _with_extras(body, script)


def _with_extras(body: Mapping[str, Any], script: Script) -> dict[str, Any]:
    assert script.extras is not None
    extras = orjson.loads(script.extras.fields)
    if script.before or script.after:
        # A part of a long text has other neighbours than the whole.
        extras = {name: value for name, value in extras.items() if name not in _NEIGHBOURS}
    settings = {**extras.pop("voice_settings", {}), **body["voice_settings"]}
    return {**extras, **body, "voice_settings": settings}


def request_id_in(headers: Mapping[str, str]) -> str | None:
    """The vendor's name for a request; None where it is nothing that could be kept and told."""
    named = headers.get("request-id") or ""
    return named if _REQUEST_ID.match(named) else None


def character_cost(headers: Mapping[str, str]) -> int | None:
    """What the vendor charges, rounded up; it has sent both names."""
    text = headers.get("character-cost") or headers.get("x-character-count") or ""
    try:
        cost = float(text)
    except ValueError:
        return None
    return math.ceil(cost) if 0 <= cost <= _LARGEST_CHARACTER_COST else None


async def _error_body(answer: VendorAnswer) -> Any:
    try:
        return orjson.loads(await answer.read(within=_ERROR_WITHIN))
    except (VendorConnectionLost, orjson.JSONDecodeError):
        return None


def _number(wire: Mapping[str, Any], name: str, default: float) -> float:
    value = wire.get(name)
    return float(value) if isinstance(value, int | float) else default
