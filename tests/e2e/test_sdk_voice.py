"""The official SDKs for speech through the whole suite, holding nothing but a personal token."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from elevenlabs import AsyncElevenLabs, ElevenLabs, VoiceSettings
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError

from tests.e2e.test_personal_tokens import a_tool
from tests.support.recordings import wav
from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e

RACHEL = "21m00Tcm4TlvDq8ikWAM"
LIBRARY = "simulatedlibrary0001"
HIGH, QUICK = "eleven_multilingual_v2", "eleven_flash_v2_5"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A person with a key at the vendor, and the SDKs that hold nothing but their token."""

    person: Person
    token: str

    @property
    def suite(self) -> Suite:
        return self.person.suite

    @contextmanager
    def eleven(self, token: str = "") -> Iterator[ElevenLabs]:
        # The SDK does not close connections that it opened itself.
        with httpx.Client(trust_env=False, timeout=30) as client:
            url = f"{self.suite.url}/elevenlabs"
            yield ElevenLabs(api_key=token or self.token, base_url=url, httpx_client=client)

    @asynccontextmanager
    async def eleven_async(self) -> AsyncIterator[AsyncElevenLabs]:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            url = f"{self.suite.url}/elevenlabs"
            yield AsyncElevenLabs(api_key=self.token, base_url=url, httpx_client=client)

    def gpt(self, path: str = "/v1", token: str = "") -> openai.OpenAI:
        url = self.suite.url + path
        return openai.OpenAI(api_key=token or self.token, base_url=url, max_retries=0)

    def gpt_async(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self.token, base_url=f"{self.suite.url}/openai/v1", max_retries=0
        )

    def served(self) -> list[int]:
        """What the vendor charged for, smallest first."""
        rows = self.suite.simulator.served(key=self.person.api_key)
        return sorted(row["usage"]["credits"] for row in rows if row["usage"])

    async def is_billed_as_served(self) -> None:
        """The ledger has a line for each speech that the vendor made, and no other."""
        served = self.served()

        async def look() -> list[int]:
            answer = await self.person.client.get("/billing/usage/records?limit=100")
            rows = answer.json()["data"]
            assert {(r["provider"], r["operation"]) for r in rows} <= {("elevenlabs", "voice")}
            return sorted(r["characters"] for r in rows if not r.get("cached"))

        assert await eventually(look, lambda seen: len(seen) >= len(served)) == served


async def _speaker(suite: Suite, tier: str) -> Speaker:
    person = a_person(suite)
    await person.register()
    if tier != "free":
        await person.become(tier)
    await person.store_key("elevenlabs")
    return Speaker(person, (await a_tool(person, "voice")).token)


@pytest.fixture(scope="module")
async def speaker(suite: Suite) -> AsyncIterator[Speaker]:
    """On the tier that grants everything."""
    made = await _speaker(suite, "enterprise")
    yield made
    await made.person.client.aclose()


@pytest.fixture(scope="module")
async def beginner(suite: Suite) -> AsyncIterator[Speaker]:
    """On the free tier."""
    made = await _speaker(suite, "free")
    yield made
    await made.person.client.aclose()


async def in_plain_functions(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(call)


async def test_elevenlabs_speaks_all_four_ways(speaker: Speaker) -> None:
    wish: dict[str, Any] = {"model_id": HIGH, "output_format": "mp3_44100_128"}

    def four_ways() -> tuple[bytes, bytes, Any, list[Any]]:
        settings = VoiceSettings(stability=0.4, speed=1.1)
        with speaker.eleven() as client:
            speech = client.text_to_speech
            one = speech.convert(RACHEL, text="One.", voice_settings=settings, seed=7, **wish)
            whole = b"".join(one)
            streamed = b"".join(speech.stream(RACHEL, text="Two.", previous_text="a", **wish))
            timed = speech.convert_with_timestamps(RACHEL, text="Three for all.", **wish)
            lines = list(speech.stream_with_timestamps(RACHEL, text="Four for all.", **wish))
        return whole, streamed, timed, lines

    whole, streamed, timed, lines = await in_plain_functions(four_ways)
    assert whole.startswith(b"\xff\xfb")
    assert streamed.startswith(b"\xff\xfb")
    assert "".join(timed.alignment.characters) == "Three for all."
    assert b64decode(timed.audio_base_64).startswith(b"\xff\xfb")
    assert "".join("".join(one.alignment.characters) for one in lines) == "Four for all."
    await speaker.is_billed_as_served()


async def test_elevenlabs_speaks_to_coroutines(speaker: Speaker) -> None:
    async with speaker.eleven_async() as client:
        speech = client.text_to_speech
        pieces = [piece async for piece in speech.convert(RACHEL, text="Five.", model_id=QUICK)]
        assert b"".join(pieces).startswith(b"\xff\xfb")
        async with speech.with_raw_response.stream(RACHEL, text="Six.", model_id=QUICK) as raw:
            assert int(raw.headers["character-cost"]) == 2
            assert raw.headers["request-id"]
            assert b"".join([piece async for piece in raw.data])
        timed = await speech.convert_with_timestamps(RACHEL, text="Seven.", model_id=QUICK)
        assert timed.alignment is not None
        lines = speech.stream_with_timestamps(RACHEL, text="Eight.", model_id=QUICK)
        assert [line async for line in lines]
    await speaker.is_billed_as_served()


async def test_elevenlabs_lists_and_settings(speaker: Speaker, beginner: Speaker) -> None:
    def look() -> None:
        with speaker.eleven() as client:
            voices = {voice.voice_id for voice in client.voices.get_all().voices}
            assert {RACHEL, LIBRARY} <= voices
            page = client.voices.search(search="rachel", page_size=5)
            assert [voice.name for voice in page.voices] == ["Rachel"]
            assert client.voices.get(RACHEL).category == "premade"
            assert client.voices.settings.get_default().stability == 0.75
            client.voices.settings.update(RACHEL, request=VoiceSettings(stability=0.3))
            assert client.voices.settings.get(RACHEL).stability == 0.3
            assert {HIGH, QUICK} <= {model.model_id for model in client.models.list()}
            told = client.user.subscription.get()
            assert (told.tier, told.max_credit_limit_extension) == ("enterprise", "unlimited")
            agreed: Any = {"additional_headers": {"x-voice-consent": "true"}}
            made = client.voices.ivc.create(
                name="A tone", files=[("a.wav", wav(11), "audio/wav")], request_options=agreed
            )
            assert client.voices.get(made.voice_id).category == "cloned"
            assert client.voices.delete(made.voice_id).status == "ok"

    await in_plain_functions(look)
    async with beginner.eleven_async() as other:
        voices = {voice.voice_id for voice in (await other.voices.get_all()).voices}
        models = [model.model_id for model in await other.models.list()]
    assert RACHEL in voices
    assert LIBRARY not in voices
    assert models == [QUICK]


async def test_elevenlabs_errors_are_the_sdks_own(speaker: Speaker, beginner: Speaker) -> None:
    def fail(client: ElevenLabs, **wish: Any) -> ApiError:
        with pytest.raises(ApiError) as refused:
            b"".join(client.text_to_speech.convert(**{"voice_id": RACHEL, "text": "a", **wish}))
        return refused.value

    def failures() -> None:
        bad = speaker.token[:-1] + "!"
        with (
            speaker.eleven() as client,
            beginner.eleven() as free,
            speaker.eleven(bad) as nobody,
        ):
            broken = fail(client, text=" ")
            assert isinstance(broken, UnprocessableEntityError)
            assert broken.body["detail"]["code"] == "text_not_speakable"
            off_schema = fail(client, seed=-1)
            assert isinstance(off_schema, UnprocessableEntityError)
            assert off_schema.body["detail"][0]["loc"] == ["body", "seed"]
            unknown = fail(client, voice_id="nobodysvoice")
            assert (unknown.status_code, unknown.body["detail"]["status"]) == (
                404,
                "voice_not_found",
            )
            beyond = fail(free, output_format="pcm_24000")
            assert (beyond.status_code, beyond.body["detail"]["upgrade_tier"]) == (402, "pro")
            quota = fail(client, text="Hi. [[sim:fault=quota]]")
            assert (quota.status_code, quota.body["detail"]["status"]) == (402, "quota_exceeded")
            # The gateway's answer, which comes before anybody knows whose door it is.
            assert fail(nobody).status_code == 401
            with pytest.raises(ApiError) as missing:
                client.history.list()
            assert missing.value.body["detail"]["code"] == "call_not_offered"
            with pytest.raises(httpx.RemoteProtocolError):
                b"".join(
                    client.text_to_speech.stream(RACHEL, text="A b c d. [[sim:cut,at=1,chunks=6]]")
                )

    await in_plain_functions(failures)
    await speaker.is_billed_as_served()


async def test_openai_speaks_with_elevenlabs_voices(speaker: Speaker, beginner: Speaker) -> None:
    def plain() -> bytes:
        with speaker.gpt() as client:
            made = client.audio.speech.create(model="tts-1-hd", voice="alloy", input="Nine.")
            assert made.response.headers["x-companion-provider"] == "elevenlabs"
            return made.content

    assert (await in_plain_functions(plain)).startswith(b"\xff\xfb")
    async with speaker.gpt_async() as client:
        speech = client.audio.speech
        async with speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="coral", input="Ten.", response_format="pcm"
        ) as streamed:
            assert streamed.headers["content-type"] == "audio/pcm"
            assert b"".join([piece async for piece in streamed.iter_bytes()])
        async with speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice=RACHEL, input="Eleven.", stream_format="sse"
        ) as events:
            lines = [line async for line in events.iter_lines() if line]
        assert "speech.audio.done" in lines[-1]
        with pytest.raises(openai.BadRequestError) as unmade:
            await speech.create(model="tts-1", voice="alloy", input="a", response_format="flac")
        assert unmade.value.param == "response_format"
        with pytest.raises(openai.NotFoundError) as unknown:
            await speech.create(model="gpt-6-luna", voice="alloy", input="a")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key=speaker.token[:-1] + "!").audio.speech.create(
                model="tts-1", voice="alloy", input="a"
            )
    await speaker.is_billed_as_served()

    def beyond() -> None:
        with beginner.gpt("/openai/v1") as client, pytest.raises(openai.APIStatusError) as refused:
            client.audio.speech.create(model="tts-1-hd", voice="alloy", input="a")
        assert (refused.value.status_code, refused.value.code) == (402, "voice_model_not_in_tier")

    await in_plain_functions(beyond)


async def test_a_token_for_chat_alone_does_not_speak(speaker: Speaker) -> None:
    token = (await a_tool(speaker.person, "chat")).token

    def refused() -> None:
        with speaker.eleven(token) as client, pytest.raises(ApiError) as eleven:
            client.voices.get_all()
        assert (eleven.value.status_code, eleven.value.body["detail"]["code"]) == (
            403,
            "scope_missing",
        )
        with speaker.gpt(token=token) as other, pytest.raises(openai.PermissionDeniedError):
            other.audio.speech.create(model="tts-1", voice="alloy", input="a")

    await in_plain_functions(refused)


async def test_the_vendor_sees_its_users_key_and_nothing_of_ours(speaker: Speaker) -> None:
    async with speaker.eleven_async() as client:
        speech = client.text_to_speech.convert(RACHEL, text="Twelve.")
        assert b"".join([piece async for piece in speech])
    told = speaker.suite.simulator.last_headers("elevenlabs")["headers"]
    headers = {name.lower() for name, _ in told}
    assert speaker.token not in repr(told)
    assert not [name for name in headers if name.startswith(("x-companion", "x-request"))]
    for name in ("gateway", "voice", "egress"):
        assert speaker.token[4:-6] not in speaker.suite.log(name)
