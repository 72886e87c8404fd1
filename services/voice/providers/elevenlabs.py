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
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId, VoiceSettings
from services.voice.providers.elevenlabs_errors import failure_of
from shared.clients.egress import Egress, VendorConnectionLost
from shared.identity import OnBehalfOf
from shared.vendors.failures import VendorFailed

# What the vendor calls them (https://elevenlabs.io/docs/api-reference/voices/get). One that it adds
# later counts as premium, so that no free tier gets it by surprise.
_CATEGORIES: Mapping[str, VoiceCategory] = {
    "premade": VoiceCategory.BASIC,
    "cloned": VoiceCategory.CUSTOM,
    "generated": VoiceCategory.CUSTOM,
    "professional": VoiceCategory.PREMIUM,
    "famous": VoiceCategory.PREMIUM,
    "high_quality": VoiceCategory.PREMIUM,
}

_FINE_ID = re.compile(r"[A-Za-z0-9]{1,64}\Z")
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
        voices = [_voice(wire) for wire in found if isinstance(wire, dict)]
        return [voice for voice in voices if voice is not None]

    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice:
        voice = _voice(await self._read(f"/v1/voices/{voice_id}", by))
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


def _speech_body(script: Script) -> dict[str, Any]:
    settings = script.settings
    voice_settings: dict[str, Any] = {
        "stability": settings.stability,
        "similarity_boost": settings.similarity_boost,
        "style": settings.style,
        "use_speaker_boost": settings.use_speaker_boost,
    }
    if settings.speed is not None:
        voice_settings["speed"] = settings.speed
    return {"text": script.text, "model_id": script.model, "voice_settings": voice_settings}


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


def _voice(wire: Mapping[str, Any]) -> Voice | None:
    """None for what can't be used: a voice whose id is no id."""
    voice_id = wire.get("voice_id")
    if not isinstance(voice_id, str) or not _FINE_ID.match(voice_id):
        return None
    name, labels = wire.get("name"), wire.get("labels")
    category, preview = wire.get("category"), wire.get("preview_url")
    return Voice(
        id=VoiceId(voice_id),
        name=name if isinstance(name, str) else voice_id,
        category=_CATEGORIES.get(str(category), VoiceCategory.PREMIUM),
        labels=_texts(labels) if isinstance(labels, dict) else {},
        preview_url=preview if isinstance(preview, str) else None,
    )


def _texts(labels: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if isinstance(value, str)}


def _number(wire: Mapping[str, Any], name: str, default: float) -> float:
    value = wire.get(name)
    return float(value) if isinstance(value, int | float) else default
