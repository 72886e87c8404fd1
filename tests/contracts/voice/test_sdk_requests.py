"""The doors that stand in for vendors' speech, held against the vendors' own SDKs."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest
from elevenlabs.text_to_speech.client import TextToSpeechClient
from elevenlabs.types import VoiceSettings
from elevenlabs.voices.client import VoicesClient
from openai.types.audio.speech_create_params import SpeechCreateParams

from services.voice.api.dropin_speech_body import DropInQuery, DropInSettings, DropInSpeech
from services.voice.api.dropin_voices import SearchQuery
from services.voice.api.openai_speech_body import VOICES, OpenAISpeech

# Passed on without a look at it: its parts are the vendor's to judge.
UNREAD = {"audio_effects"}


def asked_by(call: Any) -> set[str]:
    """The names of what an SDK's call takes."""
    return set(inspect.signature(call).parameters) - {"self", "voice_id", "request_options"}


@pytest.mark.parametrize(
    "name", ["convert", "stream", "convert_with_timestamps", "stream_with_timestamps"]
)
def test_all_that_elevenlabs_takes_for_a_speech_is_known(name: str) -> None:
    known = {*DropInSpeech.model_fields, *DropInQuery.model_fields}
    assert asked_by(getattr(TextToSpeechClient, name)) - UNREAD == known


def test_all_that_elevenlabs_takes_for_a_voice_is_known() -> None:
    # `clone_strength` is passed on as a field that we don't know.
    known = {*DropInSettings.model_fields, "clone_strength"}
    assert set(VoiceSettings.model_fields) == known


def test_all_that_elevenlabs_searches_by_is_passed_on() -> None:
    assert asked_by(VoicesClient.search) <= set(SearchQuery.model_fields)


def test_all_that_openai_takes_is_known() -> None:
    assert set(get_type_hints(SpeechCreateParams)) == set(OpenAISpeech.model_fields)


def test_every_voice_that_openai_names_has_its_place() -> None:
    hints = get_type_hints(SpeechCreateParams, include_extras=False)
    named = {
        word
        for choice in hints["voice"].__args__
        for word in getattr(choice, "__args__", ())
        if isinstance(word, str)
    }
    assert named == set(VOICES)
