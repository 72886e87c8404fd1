"""The official ElevenLabs SDK: voices, models, the account and speech over HTTP."""

import base64
import time
from typing import Any, Final

import httpx
import pytest
from elevenlabs.client import AsyncElevenLabs, ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError
from elevenlabs.types import VoiceSettings

from tests.support.simulator.process import RunningSimulator
from tests.support.simulator.stamps import STAMP_BYTES, stamps_of

RACHEL: Final = "21m00Tcm4TlvDq8ikWAM"
LIBRARY: Final = "simulatedlibrary0001"


def test_voices_are_listed_searched_and_paged(elevenlabs: ElevenLabs) -> None:
    everybody = elevenlabs.voices.get_all().voices
    first = elevenlabs.voices.search()
    assert len(first.voices) == 10
    assert first.has_more
    second = elevenlabs.voices.search(next_page_token=first.next_page_token)
    assert not second.has_more
    assert len(everybody) == first.total_count == 10 + len(second.voices)
    assert [voice.name for voice in elevenlabs.voices.search(search="rach").voices] == ["Rachel"]
    two = elevenlabs.voices.search(voice_ids=[RACHEL, LIBRARY], sort="name")
    assert [voice.voice_id for voice in two.voices] == [LIBRARY, RACHEL]
    assert elevenlabs.voices.search(category="professional").total_count == 1
    with pytest.raises(UnprocessableEntityError):
        elevenlabs.voices.search(page_size=101)


async def test_a_voice_lives_from_clone_to_removal(async_elevenlabs: AsyncElevenLabs) -> None:
    voices = async_elevenlabs.voices
    made = await voices.ivc.create(
        name="Mine", files=[("a.mp3", b"\xff\xfb", "audio/mpeg")], labels={"accent": "own"}
    )
    assert not made.requires_verification
    voice = await voices.get(made.voice_id)
    assert (voice.name, voice.category, voice.is_owner) == ("Mine", "cloned", True)
    assert (await voices.search(voice_type="personal")).total_count == 1
    settings = VoiceSettings(stability=0.1, similarity_boost=0.9)
    await voices.settings.update(made.voice_id, request=settings)
    assert (await voices.settings.get(made.voice_id)).stability == 0.1
    assert (await voices.settings.get_default()).stability == 0.5
    await voices.update(made.voice_id, name="Ours")
    assert (await voices.get(made.voice_id)).name == "Ours"
    assert (await voices.delete(made.voice_id)).status == "ok"
    with pytest.raises(ApiError) as gone:
        await voices.get(made.voice_id)
    assert gone.value.status_code == 404


def test_another_keys_clone_is_not_seen(
    elevenlabs: ElevenLabs, simulator: RunningSimulator
) -> None:
    made = elevenlabs.voices.ivc.create(name="Mine", files=[("a.mp3", b"\xff\xfb", "audio/mpeg")])
    with httpx.Client(trust_env=False) as http:
        other = ElevenLabs(
            api_key="sim-key-of-another", base_url=simulator.elevenlabs, httpx_client=http
        )
        with pytest.raises(ApiError):
            other.voices.get(made.voice_id)


def test_everybodys_voices_stay(elevenlabs: ElevenLabs) -> None:
    with pytest.raises(ApiError) as refused:
        elevenlabs.voices.delete(RACHEL)
    assert refused.value.status_code == 403


def test_models_are_a_bare_list(elevenlabs: ElevenLabs) -> None:
    models = {model.model_id: model for model in elevenlabs.models.list()}
    assert models["eleven_multilingual_v2"].maximum_text_length_per_request == 10_000
    rates = models["eleven_flash_v2_5"].model_rates
    assert rates
    assert rates.character_cost_multiplier == 0.5


def test_the_plan_shows_in_the_subscription(
    elevenlabs: ElevenLabs, simulator: RunningSimulator
) -> None:
    paid = elevenlabs.user.subscription.get()
    assert (paid.tier, paid.can_use_instant_voice_cloning) == ("pro", True)
    assert elevenlabs.user.get().subscription.tier == "pro"
    with httpx.Client(trust_env=False) as http:
        client = ElevenLabs(
            api_key="sim-key-free", base_url=simulator.elevenlabs, httpx_client=http
        )
        assert client.user.subscription.get().status == "free"
        with pytest.raises(ApiError) as gate:
            b"".join(client.text_to_speech.convert(LIBRARY, text="hi"))
        assert gate.value.status_code == 402
        with pytest.raises(ApiError) as gate:
            b"".join(client.text_to_speech.convert(RACHEL, text="x", output_format="pcm_44100"))
        assert gate.value.status_code == 403
        with pytest.raises(ApiError) as gate:
            client.voices.ivc.create(name="x", files=[("a.mp3", b"\xff", "audio/mpeg")])
        assert gate.value.status_code == 403


def test_speech_costs_its_characters(
    elevenlabs: ElevenLabs, simulator: RunningSimulator, key: str
) -> None:
    with elevenlabs.text_to_speech.with_raw_response.convert(
        RACHEL, text="Hello there", model_id="eleven_flash_v2_5"
    ) as response:
        audio = b"".join(response.data)
        headers = response.headers
    assert audio.startswith(b"\xff\xfb")
    assert headers["character-cost"] == "6"
    (served,) = simulator.served(key=key)
    assert served["usage"] == {"characters": 11, "credits": 6}
    assert served["response_id"] == headers["request-id"]


def test_length_follows_the_text(elevenlabs: ElevenLabs) -> None:
    def length(text: str) -> int:
        audio = elevenlabs.text_to_speech.convert(RACHEL, text=text, output_format="pcm_16000")
        return len(b"".join(audio))

    assert length("x" * 100) == 4 * 16000 * 2
    assert length("x" * 50) == 2 * 16000 * 2


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("mp3_22050_32", b"\xff\xf3"),
        ("wav_16000", b"RIFF"),
        ("ulaw_8000", b"\xff\xff\xff"),
        ("alaw_8000", b"\xd5\xd5"),
        ("opus_48000_64", b"OggS"),
    ],
)
def test_speech_comes_in_every_format(elevenlabs: ElevenLabs, form: Any, start: bytes) -> None:
    audio = elevenlabs.text_to_speech.convert(RACHEL, text="Hello", output_format=form)
    assert b"".join(audio).startswith(start)


async def test_speech_streams_in_pieces(
    async_elevenlabs: AsyncElevenLabs, simulator: RunningSimulator, key: str
) -> None:
    parts = async_elevenlabs.text_to_speech.stream(RACHEL, text="Hello [[sim:chunks=9]]")
    assert b"".join([part async for part in parts]).startswith(b"\xff\xfb")
    assert simulator.served(key=key)[0]["chunks"] == 9


def test_times_come_with_the_audio(elevenlabs: ElevenLabs) -> None:
    answer = elevenlabs.text_to_speech.convert_with_timestamps(RACHEL, text="Hi")
    assert base64.b64decode(answer.audio_base_64).startswith(b"\xff\xfb")
    assert answer.alignment
    assert answer.alignment.characters == ["H", "i"]
    assert answer.alignment.character_end_times_seconds == [0.04, 0.08]


async def test_times_go_on_along_a_stream(async_elevenlabs: AsyncElevenLabs) -> None:
    text = "Hi you there"
    stream = async_elevenlabs.text_to_speech.stream_with_timestamps(RACHEL, text=text)
    chunks: list[Any] = [chunk async for chunk in stream]
    assert len(chunks) == 3
    assert "".join(char for chunk in chunks for char in chunk.alignment.characters) == text
    starts = [chunk.alignment.character_start_times_seconds[0] for chunk in chunks]
    assert starts == [0.0, 0.12, 0.28]


@pytest.mark.parametrize(
    ("options", "status", "name"),
    [
        ({"text": "x" * 10_001}, 400, "max_character_limit_exceeded"),
        ({"text": "hi", "model_id": "eleven_nope"}, 400, "model_not_found"),
        ({"text": "hi", "output_format": "mp3_1_1"}, 400, "invalid_output_format"),
        ({"text": "hi", "language_code": "de"}, 400, "unsupported_language"),
    ],
)
def test_bad_requests_are_refused(
    elevenlabs: ElevenLabs, options: dict[str, Any], status: int, name: str
) -> None:
    with pytest.raises(ApiError) as refused:
        b"".join(elevenlabs.text_to_speech.convert(RACHEL, **options))
    body: Any = refused.value.body
    assert (refused.value.status_code, body["detail"]["status"]) == (status, name)


def test_settings_outside_their_range_are_a_list(elevenlabs: ElevenLabs) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        b"".join(
            elevenlabs.text_to_speech.convert(
                RACHEL, text="hi", voice_settings=VoiceSettings(stability=2)
            )
        )
    body: Any = refused.value.body
    assert body["detail"][0]["loc"] == ["body", "voice_settings", "stability"]


def test_wav_does_not_stream(elevenlabs: ElevenLabs) -> None:
    with pytest.raises(ApiError):
        b"".join(elevenlabs.text_to_speech.stream(RACHEL, text="x", output_format="wav_16000"))


def test_a_stamped_stream_tells_when_it_was_asked_for_and_when_it_was_sent(
    elevenlabs: ElevenLabs,
) -> None:
    began = time.monotonic()
    said = "[[sim:chunks=3,first_ms=40,stamped]] hello"
    pieces = list(elevenlabs.text_to_speech.stream(RACHEL, text=said, output_format="pcm_16000"))
    audio = b"".join(pieces)
    asked, sent = stamps_of(audio)
    assert began <= asked < sent <= time.monotonic()
    assert sent - asked >= 0.039
    # As long as any other, and silent but for its beginning.
    assert audio[STAMP_BYTES:] == bytes(len(said) * 16_000 * 2 // 25 - STAMP_BYTES)
