"""The vendor's wire: what is sent, and what of its answers is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import aiohttp
import orjson
import pytest

from services.voice.domain.voice import VoiceCategory, VoiceId, VoiceSettings
from services.voice.providers.elevenlabs import ElevenLabs, Patience
from shared.clients.egress import Egress, VendorConnectionLost
from shared.errors import DependencyUnavailable
from shared.vendors.failures import VendorFailed
from tests.support.voice import RACHEL, a_script, on_behalf_of

BY = on_behalf_of()
ID = VoiceId(RACHEL)


class Content:
    """A body in pieces; an exception among them is raised, None waits for ever."""

    def __init__(self, *pieces: bytes | Exception | None) -> None:
        self._pieces = list(pieces)

    async def readany(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        if piece is None:
            await asyncio.Event().wait()
        if isinstance(piece, Exception):
            raise piece
        return piece or b""

    async def read(self, most: int = -1) -> bytes:
        return b"".join(piece for piece in self._pieces if isinstance(piece, bytes))


@dataclass
class Answer:
    """A vendor's answer."""

    content: Content = field(default_factory=Content)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    async def read(self) -> bytes:
        return await self.content.read()


@dataclass
class FakeEgress:
    """Gives one answer and remembers what was asked."""

    answer: Answer | Exception
    asked: list[dict[str, Any]] = field(default_factory=list)

    @asynccontextmanager
    async def request(
        self, method: str, provider: str, path: str, **rest: Any
    ) -> AsyncIterator[Answer]:
        self.asked.append({"method": method, "provider": provider, "path": path, **rest})
        if isinstance(self.answer, Exception):
            raise self.answer
        yield self.answer


def vendor(answer: Answer | Exception, **patience: timedelta) -> tuple[ElevenLabs, FakeEgress]:
    egress = FakeEgress(answer)
    return ElevenLabs(cast("Egress", egress), Patience(**patience)), egress


def saying(wire: Any) -> ElevenLabs:
    return vendor(Answer(Content(orjson.dumps(wire))))[0]


async def test_a_script_becomes_the_vendors_request() -> None:
    eleven, egress = vendor(Answer())
    script = a_script("Hello.", settings={"speed": 1.1})
    async with eleven.speak(script, by=BY):
        pass
    (asked,) = egress.asked
    assert (asked["method"], asked["provider"], asked["by"]) == ("POST", "elevenlabs", BY)
    assert asked["path"] == f"/v1/text-to-speech/{RACHEL}/stream?output_format=mp3_44100_128"
    assert asked["body"] == {
        "text": "Hello.",
        "model_id": script.model,
        "voice_settings": {
            "stability": 0.75,
            "similarity_boost": 0.75,
            "style": 0.0,
            "use_speaker_boost": True,
            "speed": 1.1,
        },
    }


async def test_a_speed_that_nobody_named_is_the_voices_own() -> None:
    eleven, egress = vendor(Answer())
    async with eleven.speak(a_script(), by=BY):
        pass
    assert "speed" not in egress.asked[0]["body"]["voice_settings"]


async def test_wav_is_asked_for_as_a_whole() -> None:
    eleven, egress = vendor(Answer())
    async with eleven.speak(a_script(tier="enterprise", format="wav_44100"), by=BY):
        pass
    assert egress.asked[0]["path"] == f"/v1/text-to-speech/{RACHEL}?output_format=wav_44100"


@pytest.mark.parametrize(
    ("headers", "cost"),
    [
        ({"character-cost": "6"}, 6),
        ({"x-character-count": "7"}, 7),
        ({"character-cost": "6", "x-character-count": "7"}, 6),
        ({"character-cost": "6.5"}, 7),
        ({"character-cost": "0"}, 0),
        ({"character-cost": "-1"}, None),
        ({"character-cost": "nan"}, None),
        ({"character-cost": "inf"}, None),
        ({"character-cost": "1e99"}, None),
        ({"character-cost": "six"}, None),
        ({}, None),
    ],
)
async def test_the_vendors_count_is_believed_when_it_is_a_count(
    headers: dict[str, str], cost: int | None
) -> None:
    eleven, _ = vendor(Answer(headers={**headers, "request-id": "r-1"}))
    async with eleven.speak(a_script(), by=BY) as audio:
        assert (audio.characters, audio.request_id) == (cost, "r-1")


async def test_audio_is_passed_on_as_it_comes() -> None:
    eleven, _ = vendor(Answer(Content(b"one", b"two")))
    async with eleven.speak(a_script(), by=BY) as audio:
        assert [await audio.read() for _ in range(3)] == [b"one", b"two", b""]


@pytest.mark.parametrize("broken", [aiohttp.ClientPayloadError(), ConnectionResetError(), None])
async def test_a_cut_or_silent_vendor_has_failed(broken: Exception | None) -> None:
    eleven, _ = vendor(Answer(Content(b"one", broken)), silence=timedelta(milliseconds=20))
    async with eleven.speak(a_script(), by=BY) as audio:
        assert await audio.read() == b"one"
        with pytest.raises(VendorFailed):
            await audio.read()


@pytest.mark.parametrize("sent", [True, False])
async def test_a_lost_connection_tells_whether_it_may_be_billed(sent: bool) -> None:
    eleven, _ = vendor(VendorConnectionLost("reset", sent=sent))
    with pytest.raises(VendorFailed) as failed:
        await eleven.voices(by=BY)
    assert failed.value.billed is sent


async def test_our_own_trouble_stays_ours() -> None:
    eleven, _ = vendor(DependencyUnavailable("keyvault"))
    with pytest.raises(DependencyUnavailable):
        async with eleven.speak(a_script(), by=BY):
            pass


async def test_categories_become_those_of_the_tier_table() -> None:
    wanted = {
        "premade": VoiceCategory.BASIC,
        "cloned": VoiceCategory.CUSTOM,
        "generated": VoiceCategory.CUSTOM,
        "professional": VoiceCategory.PREMIUM,
        "famous": VoiceCategory.PREMIUM,
        "high_quality": VoiceCategory.PREMIUM,
        "something_new": VoiceCategory.PREMIUM,
        None: VoiceCategory.PREMIUM,
    }
    wire = [{"voice_id": f"v{n}", "category": name} for n, name in enumerate(wanted)]
    voices = await saying({"voices": wire}).voices(by=BY)
    assert [voice.category for voice in voices] == list(wanted.values())


async def test_of_a_voice_only_its_id_is_needed() -> None:
    wire = [
        {"voice_id": "a1", "labels": {"accent": "irish", "odd": 7}, "preview_url": 7, "name": None},
        {"voice_id": "../user"},
        {"name": "nameless"},
        "no voice",
    ]
    (voice,) = await saying({"voices": wire}).voices(by=BY)
    assert (voice.id, voice.name, voice.preview_url) == ("a1", "a1", None)
    assert voice.labels == {"accent": "irish"}


@pytest.mark.parametrize("wire", [[], {}, {"voices": None}, {"voices": {}}, 7, None])
async def test_a_list_of_another_shape_is_a_failed_vendor(wire: Any) -> None:
    with pytest.raises(VendorFailed):
        await saying(wire).voices(by=BY)


async def test_a_page_instead_of_json_is_a_failed_vendor() -> None:
    eleven, _ = vendor(Answer(Content(b"<html>")))
    with pytest.raises(VendorFailed):
        await eleven.voice(ID, by=BY)


async def test_settings_are_read_and_completed() -> None:
    wire = {"stability": 0.5, "similarity_boost": None, "use_speaker_boost": True, "speed": 1}
    assert await saying(wire).settings_of(ID, by=BY) == VoiceSettings(
        stability=0.5, similarity_boost=0.75, style=0.0, use_speaker_boost=True, speed=1.0
    )


async def test_a_refusals_body_is_read_whatever_it_is() -> None:
    for body in (b"<html>", b"{", b'{"detail": {"status": "system_busy"}}'):
        eleven, _ = vendor(Answer(Content(body), status=500))
        with pytest.raises((VendorFailed, Exception)) as failed:
            await eleven.voices(by=BY)
        assert failed.value.__class__.__name__ in {"VendorFailed", "VendorOverloaded"}
