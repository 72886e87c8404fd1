"""The vendor's wire: what is sent, and what of its answers is believed."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import orjson
import pytest

from services.voice.domain.piece import Alignment, Piece
from services.voice.domain.voice import VoiceCategory, VoiceId, VoiceSettings
from services.voice.providers.elevenlabs import ElevenLabs, Patience
from shared.clients.egress import Egress, VendorConnectionLost
from shared.errors import DependencyUnavailable
from shared.vendors.failures import VendorFailed
from tests.support.voice import RACHEL, a_script, on_behalf_of

BY = on_behalf_of()
ID = VoiceId(RACHEL)


class Content:
    """A body in pieces; an exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = list(pieces)

    async def read_some(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def read(self) -> bytes:
        return b"".join(piece for piece in self._pieces if isinstance(piece, bytes))


@dataclass
class Answer:
    """A vendor's answer."""

    content: Content = field(default_factory=Content)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    waited: list[timedelta] = field(default_factory=list)

    async def read(self, *, within: timedelta) -> bytes:
        return await self.content.read()

    async def read_some(self, *, within: timedelta) -> bytes:
        self.waited.append(within)
        return await self.content.read_some()


@dataclass
class FakeEgress:
    """Gives one answer and remembers what was asked."""

    answer: Answer | Exception
    asked: list[dict[str, Any]] = field(default_factory=list)

    @asynccontextmanager
    async def call(
        self, method: str, provider: str, path: str, *, body: bytes | None = None, **rest: Any
    ) -> AsyncIterator[Answer]:
        said = None if body is None else orjson.loads(body)
        asked = {"method": method, "provider": provider, "path": path, "body": said}
        self.asked.append({**asked, **rest})
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


async def test_a_cut_or_silent_vendor_has_failed() -> None:
    answer = Answer(Content(b"one", VendorConnectionLost("no answer in time", sent=True)))
    eleven, _ = vendor(answer, silence=timedelta(seconds=7))
    async with eleven.speak(a_script(), by=BY) as audio:
        assert await audio.read() == b"one"
        with pytest.raises(VendorFailed):
            await audio.read()
    assert answer.waited == [timedelta(seconds=7)] * 2


async def test_what_a_model_takes_is_sent_and_nothing_else() -> None:
    eleven, egress = vendor(Answer())
    wish = {"language_code": "de", "seed": 7}
    for model in ("eleven_flash_v2_5", "eleven_multilingual_v2", "eleven_v3"):
        script = a_script("Hallo.", tier="enterprise", model=model, **wish)
        async with eleven.speak(replace(script, before="Na.", after="Ja."), by=BY):
            pass
    flash, multilingual, third = (asked["body"] for asked in egress.asked)
    assert (flash["language_code"], flash["seed"], flash["previous_text"]) == ("de", 7, "Na.")
    assert "language_code" not in multilingual
    assert (multilingual["previous_text"], multilingual["next_text"]) == ("Na.", "Ja.")
    assert third["language_code"] == "de"
    assert "previous_text" not in third


def timed_line(text: str, audio: bytes, start: float) -> bytes:
    times = [start + 0.5 * position for position in range(len(text) + 1)]
    alignment = {
        "characters": list(text),
        "character_start_times_seconds": times[:-1],
        "character_end_times_seconds": times[1:],
    }
    return orjson.dumps({"audio_base64": b64encode(audio).decode(), "alignment": alignment})


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_lines_with_times_are_read_however_they_are_cut(size: int) -> None:
    wire = timed_line("Hi", b"one", 0) + b"\n\n" + timed_line("!", b"two", 1)
    pieces = [wire[start : start + size] for start in range(0, len(wire), size)]
    eleven, egress = vendor(Answer(Content(*pieces)))
    async with eleven.speak_timed(a_script(), by=BY) as audio:
        heard = [await audio.read() for _ in range(3)]
    assert heard == [
        Piece(b"one", Alignment(["H", "i"], [0.0, 0.5], [0.5, 1.0])),
        Piece(b"two", Alignment(["!"], [1.0], [1.5])),
        Piece(b""),
    ]
    assert "/stream/with-timestamps?" in egress.asked[0]["path"]


async def test_a_line_without_audio_is_not_the_end() -> None:
    empty = b'{"audio_base64": "", "alignment": null}'
    wire = b"\n".join(
        (empty, timed_line("Hi", b"one", 0), empty, timed_line("!", b"two", 1), empty)
    )
    eleven, _ = vendor(Answer(Content(wire)))
    async with eleven.speak_timed(a_script(), by=BY) as audio:
        heard = [(await audio.read()).audio for _ in range(4)]
    assert heard == [b"one", b"two", b"", b""]


@pytest.mark.parametrize("named", ["req\x001", "réq", "req 1", "\udce9", "x" * 500, ""])
async def test_a_name_that_could_not_be_kept_is_none(named: str) -> None:
    eleven, _ = vendor(Answer(headers={"request-id": named}))
    async with eleven.speak(a_script(), by=BY) as audio:
        assert audio.request_id is None


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[]",
        b'{"audio_base64": 7}',
        b'{"audio_base64": "a"}',
        b'{"alignment": {"characters": ["a"]}}',
        b'{"alignment": {"characters": ["a"], "character_start_times_seconds": [],'
        b' "character_end_times_seconds": []}}',
    ],
)
async def test_a_line_of_another_shape_is_a_failed_vendor(line: bytes) -> None:
    eleven, _ = vendor(Answer(Content(line)))
    async with eleven.speak_timed(a_script(), by=BY) as audio:
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
