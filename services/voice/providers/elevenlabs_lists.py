"""ElevenLabs' lists of voices and models, word for word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import orjson

from services.voice.domain.script import VENDOR
from services.voice.domain.told import Query, ToldModel, ToldVoice, ToldVoices
from services.voice.domain.voice import VoiceId
from services.voice.providers.elevenlabs_errors import failure_of
from services.voice.providers.elevenlabs_voice_wire import voice_from_wire
from shared.clients.egress import Egress, VendorConnectionLost
from shared.identity import OnBehalfOf
from shared.vendors.failures import VendorFailed

_WITHIN = timedelta(seconds=30)


class ElevenLabsLists:
    """Asked with the user's key, which is added on the way by the egress."""

    def __init__(self, egress: Egress, within: timedelta = _WITHIN) -> None:
        self._egress = egress
        self._within = within

    async def list_voices(self, query: Query, *, by: OnBehalfOf) -> ToldVoices:
        return _voices(await self._read(f"/v1/voices?{urlencode(query)}", by))

    async def search_voices(self, query: Query, *, by: OnBehalfOf) -> ToldVoices:
        return _voices(await self._read(f"/v2/voices?{urlencode(query)}", by))

    async def tell_voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> ToldVoice:
        told = _voice(await self._read(f"/v1/voices/{voice_id}", by))
        if told is None:
            raise VendorFailed(VENDOR)
        return told

    async def list_models(self, *, by: OnBehalfOf) -> Sequence[ToldModel]:
        wire = await self._read("/v1/models", by)
        if not isinstance(wire, list):
            raise VendorFailed(VENDOR)
        return [
            ToldModel(model["model_id"], model)
            for model in wire
            if isinstance(model, dict) and isinstance(model.get("model_id"), str)
        ]

    async def _read(self, path: str, by: OnBehalfOf) -> Any:
        """The vendor's answer when it is a good one; else the failure that it stands for."""
        path = path.removesuffix("?")
        try:
            async with self._egress.call(
                "GET", VENDOR, path, by=by, first_byte_within=self._within
            ) as answer:
                body = await answer.read(within=self._within)
                status, headers = answer.status, answer.headers
        except VendorConnectionLost as lost:
            raise VendorFailed(VENDOR, billed=False) from lost
        wire = _json(body)
        if status != 200:
            raise failure_of(status, wire, headers, path)
        return wire


def _voices(wire: Any) -> ToldVoices:
    found = wire.get("voices") if isinstance(wire, dict) else None
    if not isinstance(found, list):
        raise VendorFailed(VENDOR)
    voices = [told for each in found if (told := _voice(each)) is not None]
    return ToldVoices(voices, {name: wire[name] for name in wire if name != "voices"})


def _voice(wire: Any) -> ToldVoice | None:
    voice = voice_from_wire(wire)
    words: Mapping[str, Any] = wire
    return None if voice is None else ToldVoice(voice, words)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
