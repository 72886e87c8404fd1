"""ElevenLabs' voices: looking for them, having one made, having it deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from services.voice.domain.clone import CloneOrder, MadeVoice, Sample
from services.voice.domain.errors import SamplesRejected, SpeechRejected, VoiceNotFound
from services.voice.domain.script import VENDOR
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId
from services.voice.domain.voice_search import VoicePage, VoiceQuery
from services.voice.providers.elevenlabs import Patience
from services.voice.providers.elevenlabs_errors import failure_of
from services.voice.providers.elevenlabs_voice_wire import voice_from_wire
from services.voice.providers.multipart import MultipartForm
from shared.clients.egress import Egress, Payload, VendorConnectionLost
from shared.identity import OnBehalfOf
from shared.vendors.failures import VendorFailed

# One of the vendor's pages may hold none that fits: then the next is looked at, but not for ever.
_MOST_PAGES = 5
# 40 MiB take a while, and the vendor listens to them before it answers.
_MAKING = timedelta(seconds=300)
_LARGEST_ANSWER = 8 << 20
_LONGEST_TOKEN = 1_000


class ElevenLabsVoices:
    """The voices of whoever's key it is, which is added on the way by the egress."""

    def __init__(self, egress: Egress, patience: Patience | None = None) -> None:
        self._egress = egress
        self._patience = patience or Patience()

    async def search(self, query: VoiceQuery, *, by: OnBehalfOf) -> VoicePage:
        """The next page that holds any voice which fits; shorter than was asked for where others
        stood between them."""
        token = query.page_token
        for _page in range(_MOST_PAGES):
            wire = await self._ask("GET", f"/v2/voices?{_search(query, token)}", by)
            voices, token = _voices(wire, query.category), _next_token(wire, token)
            if voices or token is None:
                return VoicePage(voices, token)
        return VoicePage((), token)

    async def make(
        self, order: CloneOrder, samples: Sequence[Sample], *, by: OnBehalfOf
    ) -> MadeVoice:
        try:
            wire = await self._ask(
                "POST", "/v1/voices/add", by, _form(order, samples).payload(), _MAKING
            )
        except SpeechRejected as rejected:
            raise SamplesRejected(VENDOR) from rejected
        made = voice_from_wire(wire)
        if made is None:
            raise VendorFailed(VENDOR)
        return MadeVoice(made.id, wire.get("requires_verification") is True)

    async def remove(self, voice_id: VoiceId, *, by: OnBehalfOf) -> bool:
        try:
            await self._ask("DELETE", f"/v1/voices/{voice_id}", by)
        except VoiceNotFound:
            return False
        return True

    async def _ask(
        self,
        method: str,
        path: str,
        by: OnBehalfOf,
        payload: Payload | None = None,
        within: timedelta | None = None,
    ) -> Mapping[str, Any]:
        """The vendor's answer when it is a good one; else the failure that it stands for."""
        try:
            async with self._egress.request(
                method,
                VENDOR,
                path,
                by=by,
                payload=payload,
                first_byte_within=within or self._patience.first_byte,
            ) as response:
                wire = await self._read(response)
                if response.status != 200:
                    raise failure_of(response.status, wire, response.headers, path)
        except VendorConnectionLost as lost:
            raise VendorFailed(VENDOR, billed=lost.sent) from lost
        if not isinstance(wire, dict):
            raise VendorFailed(VENDOR)
        return wire

    async def _read(self, response: aiohttp.ClientResponse) -> Any:
        body = bytearray()
        try:
            async with asyncio.timeout(self._patience.silence.total_seconds()):
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > _LARGEST_ANSWER:
                        raise VendorFailed(VENDOR)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise VendorFailed(VENDOR) from error
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            return None


def _search(query: VoiceQuery, token: str | None) -> str:
    # The vendor tells its own categories apart; only of the stock voices there is just one.
    category = "premade" if query.category is VoiceCategory.BASIC else None
    asked = {
        "page_size": str(query.page_size),
        "next_page_token": token,
        "search": query.search,
        "category": category,
        "language": query.language,
        "gender": query.gender,
    }
    return urlencode({name: value for name, value in asked.items() if value is not None})


def _voices(wire: Mapping[str, Any], category: VoiceCategory | None) -> list[Voice]:
    found = wire.get("voices")
    if not isinstance(found, list):
        raise VendorFailed(VENDOR)
    voices = [voice for each in found if (voice := voice_from_wire(each)) is not None]
    return [voice for voice in voices if category in (None, voice.category)]


def _next_token(wire: Mapping[str, Any], token: str | None) -> str | None:
    """None at the end, and where going on would lead back to the same page."""
    following = wire.get("next_page_token")
    if wire.get("has_more") is not True or not isinstance(following, str):
        return None
    is_fine = 0 < len(following) <= _LONGEST_TOKEN and following != token
    return following if is_fine else None


def _form(order: CloneOrder, samples: Sequence[Sample]) -> MultipartForm:
    form = MultipartForm()
    form.add_text("name", order.name)
    if order.description:
        form.add_text("description", order.description)
    if order.labels:
        form.add_text("labels", orjson.dumps(dict(order.labels)).decode())
    form.add_text("remove_background_noise", str(order.remove_background_noise).lower())
    for position, sample in enumerate(samples, start=1):
        # What the user calls the file is nobody else's business.
        name = f"sample-{position:02}{sample.recording.suffix}"
        form.add_file(
            "files",
            name,
            sample.recording.content_type,
            sample.upload.content,
            sample.upload.size,
        )
    return form
