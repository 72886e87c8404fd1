"""ElevenLabs' request for speech as an order, and what of it reaches the vendor."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.voice.api.dropin_speech_body import DropInQuery, DropInSpeech
from services.voice.domain.script import Script, SpeechOrder, script_for
from services.voice.providers.elevenlabs import speech_body, speech_path
from shared.model_catalogue import ModelCatalogue
from shared.tiers import tier_named
from shared.vendors.dropins import BadParameter
from tests.support.voice import RACHEL

ASKED: dict[str, Any] = {
    "seed": 7,
    "previous_text": "Before.",
    "next_text": "After.",
    "previous_request_ids": ["abc-1"],
    "apply_text_normalization": "off",
    "pronunciation_dictionary_locators": [{"pronunciation_dictionary_id": "d", "version_id": "1"}],
    "audio_effects": {"pan": -1},
    "a_field_of_tomorrow": {"deep": [1, None]},
}


def an_order(query: DropInQuery | None = None, text: str = "Hi.", **body: Any) -> SpeechOrder:
    asked = DropInSpeech.model_validate({"text": text, **body})
    return asked.to_order(RACHEL, query or DropInQuery())


def script(order: SpeechOrder) -> Script:
    return script_for(order, tier_named("enterprise"), ModelCatalogue())


def test_what_the_vendor_takes_beside_reaches_it_as_it_came() -> None:
    settings = {"stability": 0.1, "speed": 1.1, "clone_strength": 0.5, "style": None}
    body = speech_body(script(an_order(**ASKED, voice_settings=settings)))
    spoken_with = body.pop("voice_settings")
    assert spoken_with["clone_strength"] == 0.5
    assert (spoken_with["stability"], spoken_with["speed"], spoken_with["style"]) == (0.1, 1.1, 0)
    assert body == {"text": "Hi.", "model_id": "eleven_multilingual_v2", **ASKED}


def test_the_address_says_what_was_asked_for() -> None:
    query = DropInQuery(
        output_format="pcm_24000", enable_logging=False, optimize_streaming_latency=2
    )
    assert speech_path(script(an_order(query))) == (
        f"/v1/text-to-speech/{RACHEL}/stream?output_format=pcm_24000"
        "&enable_logging=false&optimize_streaming_latency=2"
    )


def test_what_the_tier_governs_comes_from_nowhere_else() -> None:
    smuggled: dict[str, Any] = {
        "output_format": "pcm_48000",
        "voice_id": "x",
        "model": "eleven_v4",
        "inputs": [],
    }
    assert an_order(**smuggled).extras is None


def test_a_part_of_a_long_text_has_its_own_neighbours() -> None:
    parts = script(an_order(text="A sentence of it. " * 400, **ASKED)).in_parts()
    assert len(parts) > 1
    for part in parts:
        body = speech_body(part)
        assert body.get("previous_text") != "Before."
        assert body.get("next_text") != "After."
        assert "previous_request_ids" not in body
        assert body["a_field_of_tomorrow"] == ASKED["a_field_of_tomorrow"]


def test_another_extra_is_another_request() -> None:
    plain, same = an_order(), an_order()
    other = an_order(previous_text="Before.")
    assert plain.request_hash == same.request_hash != other.request_hash


@pytest.mark.parametrize("depth", [10, 254, 255, 300, 900])
def test_however_deep_it_is_it_is_passed_on_or_refused(depth: int) -> None:
    body = orjson.loads(b'{"x":' + b"[" * depth + b"]" * depth + b"}")
    try:
        order = an_order(**body)
    except BadParameter:
        assert depth > 200
        return
    assert order.extras is not None
    assert orjson.loads(order.extras.fields) == body
    assert order.request_hash
    assert speech_body(script(order))["x"] == body["x"]


def test_no_more_is_passed_on_than_bears_a_reason() -> None:
    with pytest.raises(BadParameter, match="bytes"):
        an_order(x="y" * (64 << 10))
