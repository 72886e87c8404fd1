"""ElevenLabs' wire: https://elevenlabs.io/docs/api-reference"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from services.voice.domain.ports import Audio
from services.voice.domain.script import VENDOR, Script
from services.voice.domain.voice import Voice, VoiceId, VoiceSettings
from services.voice.providers.elevenlabs_errors import failure_of
from shared.clients.egress import Egress, VendorConnectionLost
from shared.identity import OnBehalfOf
from shared.vendors.failures import VendorFailed

_LARGEST_ERROR = 1 << 16
_LARGEST_CHARACTER_COST = 1_000_000


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
        async with self._call("POST", _speech_path(script), by, _speech_body(script)) as response:
            yield _Stream(response, self._patience.silence)

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
        async with self._call("GET", path, by) as response:
            try:
                async with asyncio.timeout(self._patience.silence.total_seconds()):
                    wire = orjson.loads(await response.read())
            except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
                raise VendorFailed(VENDOR) from error
        if not isinstance(wire, dict):
            raise VendorFailed(VENDOR)
        return wire

    @asynccontextmanager
    async def _call(
        self, method: str, path: str, by: OnBehalfOf, body: Mapping[str, Any] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The vendor's answer when it is a good one; else the failure that it stands for."""
        try:
            async with self._egress.request(
                method,
                VENDOR,
                path,
                by=by,
                body=body,
                first_byte_within=self._patience.first_byte,
            ) as response:
                if response.status != 200:
                    raise failure_of(
                        response.status, await _error_body(response), response.headers, path
                    )
                yield response
        except VendorConnectionLost as lost:
            raise VendorFailed(VENDOR, billed=lost.sent) from lost


class _Stream:
    """Audio on its way from the vendor."""

    def __init__(self, response: aiohttp.ClientResponse, silence: timedelta) -> None:
        self._content = response.content
        self._silence = silence.total_seconds()
        self.characters = _character_cost(response.headers)
        self.request_id = response.headers.get("request-id")

    async def read(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence):
                return await self._content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise VendorFailed(VENDOR) from error


def _speech_path(script: Script) -> str:
    # WAV has its length in its head, so the vendor makes it only as a whole.
    stream = "" if script.format.codec == "wav" else "/stream"
    voice_id, format_ = script.voice_id, script.format.name
    return f"/v1/text-to-speech/{voice_id}{stream}?output_format={format_}"


def settings_body(settings: VoiceSettings) -> dict[str, Any]:
    """How the vendor is told how to speak."""
    body: dict[str, Any] = {
        "stability": settings.stability,
        "similarity_boost": settings.similarity_boost,
        "style": settings.style,
        "use_speaker_boost": settings.use_speaker_boost,
    }
    return body if settings.speed is None else {**body, "speed": settings.speed}


def _speech_body(script: Script) -> dict[str, Any]:
    return {
        "text": script.text,
        "model_id": script.model,
        "voice_settings": settings_body(script.settings),
    }


def _character_cost(headers: Mapping[str, str]) -> int | None:
    """What the vendor charges, rounded up; it has sent both names."""
    text = headers.get("character-cost") or headers.get("x-character-count") or ""
    try:
        cost = float(text)
    except ValueError:
        return None
    return math.ceil(cost) if 0 <= cost <= _LARGEST_CHARACTER_COST else None


async def _error_body(response: aiohttp.ClientResponse) -> Any:
    try:
        async with asyncio.timeout(5):
            return orjson.loads(await response.content.read(_LARGEST_ERROR))
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
        return None


def _number(wire: Mapping[str, Any], name: str, default: float) -> float:
    value = wire.get(name)
    return float(value) if isinstance(value, int | float) else default
