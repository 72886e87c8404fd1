"""`POST /voice/speech` through the real service: audio, money, limits and every way to end."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.news.ended_sessions import EndedSessions
from shared.valkey import open_cache
from tests.support.suite import eventually
from tests.support.voice_service import Surroundings, Voice, problem, running_voice

RACHEL = "21m00Tcm4TlvDq8ikWAM"
LIBRARY = "simulatedlibrary0001"
MANY_PIECES = "A long story. [[sim:chunks=200,delay_ms=20]]"


async def test_audio_is_spoken_and_charged_as_the_vendor_counts(voice: Voice) -> None:
    ada = voice.person("pro")
    answer = await voice.say(ada, "Hello there.")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert answer.content.startswith(b"\xff\xfb")
    (served,) = ada.served()
    assert (served["outcome"], served["model"]) == ("completed", "eleven_multilingual_v2")
    (usage,) = await voice.usage(ada)
    assert usage["characters"] == served["usage"]["credits"] == 12
    assert (usage["source"], usage["outcome"], usage["operation"]) == ("provider", "done", "voice")
    assert usage["request_id"] == answer.headers["x-request-id"]
    assert usage["provider_request_id"] == served["response_id"]


async def test_the_ledger_follows_the_vendors_cost_where_it_differs(voice: Voice) -> None:
    free = voice.person("free")
    answer = await voice.say(free, "Eleven chars")  # the fast model costs half
    assert answer.headers["x-character-count"] == "12"
    (served,), (usage,) = free.served(), await voice.usage(free)
    assert usage["characters"] == served["usage"]["credits"] == 6


async def test_json_holds_the_whole_audio(voice: Voice) -> None:
    ada = voice.person()
    answer = await voice.say(ada, headers={"accept": "application/json"})
    body = answer.json()
    audio = await voice.say(ada)
    assert b64decode(body["audio_base64"]) == audio.content
    assert (body["voice_id"], body["character_count"]) == (RACHEL, 12)
    assert (body["format"], body["content_type"]) == ("mp3_44100_128", "audio/mpeg")
    assert body["usage"] == {"characters": 12, "source": "provider"}


async def test_audio_arrives_while_the_vendor_still_speaks(voice: Voice) -> None:
    ada = voice.person()
    pieces = 0
    async with voice.client.stream(
        "POST",
        "/voice/speech",
        json={"text": "[[sim:chunks=4,delay_ms=150]]", "voice_id": RACHEL},
        headers=ada.headers,
    ) as answer:
        async for _ in answer.aiter_raw():
            pieces += 1
            if pieces == 1:
                assert ada.served()[0]["outcome"] == "running"
    assert pieces == 4


@pytest.mark.parametrize(
    ("tier", "format_", "content_type", "start"),
    [
        ("free", "mp3_22050_32", "audio/mpeg", b"\xff\xf3"),
        ("free", "ulaw_8000", "audio/basic", b"\xff"),
        ("pro", "mp3_44100_192", "audio/mpeg", b"\xff\xfb"),
        ("pro", "pcm_24000", "audio/pcm", b"\0"),
        ("pro", "opus_48000_64", "audio/ogg", b"OggS"),
        ("enterprise", "wav_44100", "audio/wav", b"RIFF"),
        ("enterprise", "pcm_48000", "audio/pcm", b"\0"),
    ],
)
async def test_every_tier_has_its_formats(
    voice: Voice, tier: str, format_: str, content_type: str, start: bytes
) -> None:
    answer = await voice.say(voice.person(tier), format=format_)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert answer.content.startswith(start)


async def test_settings_reach_the_vendor_within_its_ranges(voice: Voice) -> None:
    answer = await voice.say(
        voice.person(), settings={"stability": 1, "speed": 0.7, "use_speaker_boost": False}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("tier", "wish", "code", "upgrade"),
    [
        ("free", {"format": "mp3_44100_192"}, "format_not_in_tier", "pro"),
        ("pro", {"format": "wav_44100"}, "format_not_in_tier", "enterprise"),
        ("free", {"voice_id": LIBRARY}, "voice_not_in_tier", "pro"),
        ("free", {"model": "eleven_multilingual_v2"}, "voice_model_not_in_tier", "pro"),
        ("free", {"settings": {"use_speaker_boost": True}}, "speaker_boost_not_in_tier", "pro"),
    ],
)
async def test_what_the_tier_lacks_is_a_402_that_names_the_tier_that_has_it(
    voice: Voice, tier: str, wish: dict[str, Any], code: str, upgrade: str
) -> None:
    person = voice.person(tier)
    answer = await voice.say(person, **wish)
    assert answer.status_code == 402
    assert (problem(answer)["code"], problem(answer)["upgrade_tier"]) == (code, upgrade)
    assert person.served() == []
    # It used up nothing.
    good = await voice.say(person)
    assert (
        '"elevenlabs.requests_per_minute";r=' + ("4" if tier == "free" else "19")
        in (good.headers["ratelimit"])
    )


async def test_an_unknown_voice_is_a_404_for_every_tier(voice: Voice) -> None:
    for tier in ("free", "pro"):
        for voice_id in ("nobodysvoice", "../../v1/user", "a" * 65):
            answer = await voice.say(voice.person(tier), voice_id=voice_id)
            assert (answer.status_code, problem(answer)["code"]) == (404, "voice_not_found")


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "\\ud800", "voice_id": "a"}',
        b'{"text": "a\\u0000b", "voice_id": "a"}',
        b'{"text": "", "voice_id": "a"}',
        b'{"text": 7, "voice_id": "a"}',
        b'{"text": "a", "voice_id": ""}',
        b'{"text": "a"}',
        b'{"text": "a", "voice_id": "a", "pitch": 1}',
        b'{"text": "a", "voice_id": "a", "settings": {"pitch": 1}}',
        b'{"text": "a", "voice_id": "a", "settings": {"stability": 1.1}}',
        b'{"text": "a", "voice_id": "a", "settings": {"stability": NaN}}',
        b'{"text": "a", "voice_id": "a", "settings": {"speed": 1e400}}',
        b'{"text": "a", "voice_id": "a", "settings": {"speed": 0.5}}',
        b'{"text": "a", "voice_id": "a", "seed": -1}',
        b'{"text": "a", "voice_id": "a", "seed": 4294967296}',
        b'{"text": "a", "voice_id": "a", "language_code": "german"}',
        b'{"text": "a", "voice_id": "a", "with_timestamps": 7}',
        b'{"text": "a", "voice_id": "a", "format": "mp3_1_1"}',
        b'{"text": "a", "voice_id": "a", "format": "mp3&x=1"}',
        b'{"text": "a", "voice_id": "a", "model": "a\\u0000b"}',
        b'{"text": "a", "voice_id": "a", "model": ' + b"9" * 5000 + b"}",
        b"[" * 50_000 + b"]" * 50_000,
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"",
    ],
    ids=str,
)
async def test_no_body_is_more_than_a_client_error(voice: Voice, body: bytes) -> None:
    answer = await voice.client.post(
        "/voice/speech",
        content=body,
        headers={**voice.person().headers, "content-type": "application/json"},
    )
    assert answer.status_code in {400, 422}, answer.text
    assert problem(answer)["code"]


async def test_text_is_measured_once_trimmed(voice: Voice) -> None:
    ada = voice.person()
    assert (await voice.say(ada, " " * 2_000 + "a" * 4_990 + "\n")).status_code == 200
    answer = await voice.say(ada, "a" * 40_001)
    assert (answer.status_code, problem(answer)["code"]) == (422, "text_not_speakable")
    answer = await voice.say(voice.person("free"), "a" * 5_001)
    assert (answer.status_code, problem(answer)["code"]) == (402, "text_not_in_tier")


@pytest.mark.parametrize("key", ["", "with space", "ä", "k" * 201])
async def test_an_idempotency_key_is_a_short_plain_word(voice: Voice, key: str) -> None:
    headers = httpx.Headers(voice.person().headers, encoding="utf-8")
    headers["idempotency-key"] = key
    answer = await voice.client.post(
        "/voice/speech", json={"text": "a", "voice_id": RACHEL}, headers=headers
    )
    assert answer.status_code == 422


async def test_who_is_not_signed_in_says_nothing(voice: Voice) -> None:
    answer = await voice.client.post("/voice/speech", json={"text": "a", "voice_id": RACHEL})
    assert answer.status_code == 401


# --- limits


async def test_limits_are_told_in_every_answer(voice: Voice) -> None:
    answer = await voice.say(voice.person("free"), "Hello.")
    assert answer.headers["ratelimit-policy"].startswith(
        '"elevenlabs.requests_per_minute";q=5;w=60, "elevenlabs.characters_per_month";q=10000;w=2'
    )
    minute, month = answer.headers["ratelimit"].split(", ")
    assert minute.startswith('"elevenlabs.requests_per_minute";r=4;t=')
    assert month.startswith('"elevenlabs.characters_per_month";r=9994;t=')


@pytest.mark.parametrize(("tier", "limit"), [("free", 5), ("pro", 20)])
async def test_a_burst_admits_exactly_the_limit(voice: Voice, tier: str, limit: int) -> None:
    person = voice.person(tier)
    answers = await asyncio.gather(*(voice.say(person) for _ in range(2 * limit + 7)))
    assert Counter(a.status_code for a in answers) == {200: limit, 429: limit + 7}
    refused = problem(next(answer for answer in answers if answer.status_code == 429))
    assert (refused["code"], refused["limit"], refused["used"]) == ("limit_reached", limit, limit)
    assert refused["scope"] == "elevenlabs.requests_per_minute"
    assert 1 <= refused["retry_after"] <= 60
    assert refused["resets_at"]
    assert refused["upgrade_tier"] == {"free": "pro", "pro": "enterprise"}[tier]
    assert len(person.served()) == len(await voice.usage(person)) == limit


async def test_a_refusal_tells_the_limits_in_headers_too(voice: Voice) -> None:
    person = voice.person("free")
    answers = await asyncio.gather(*(voice.say(person) for _ in range(6)))
    (refused,) = [answer for answer in answers if answer.status_code == 429]
    assert refused.headers["ratelimit"].startswith('"elevenlabs.requests_per_minute";r=0;t=')
    assert int(refused.headers["retry-after"]) == problem(refused)["retry_after"]


async def test_the_months_characters_admit_all_of_a_text_or_nothing(voice: Voice) -> None:
    person = voice.person("free")
    answers = []
    for length in (4_900, 4_900, 4_900, 2_700, 2_600):
        answers.append(await voice.say(person, "a" * length))
        await voice.until_settled(person)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 200]
    refused = problem(answers[3])
    assert refused["scope"] == "elevenlabs.characters_per_month"
    # The fast model costs half: that is what was used, whatever was reserved.
    assert (refused["limit"], refused["used"]) == (10_000, 7_350)


async def test_that_the_rest_of_the_month_has_no_room_is_told_once(voice: Voice) -> None:
    person = voice.person("free")

    async def told() -> list[dict[str, Any]]:
        rows = await voice.database.fetch(
            "select envelope from outbox where stream = 'limit.refused.free'"
            " and envelope ->> 'subject' = $1",
            str(person.id),
        )
        return [row["envelope"]["data"] for row in rows]

    for length, status in ((4_900, 200), (4_900, 200), (4_900, 200), (2_700, 429), (2_600, 200)):
        assert (await voice.say(person, "a" * length)).status_code == status
        await voice.until_settled(person)
    assert await told() == [], "there was room for a shorter one, and 80 percent were not used"
    for _ in range(2):
        assert (await voice.say(person, "a" * 2_000)).status_code == 429
    [refused] = await told()
    assert (refused["window"], refused["limit"], refused["used"]) == (
        *("elevenlabs.characters_per_month", 10_000, 8_650),
    )


async def test_enterprise_has_no_monthly_limit(voice: Voice) -> None:
    answer = await voice.say(voice.person("enterprise"))
    assert answer.headers["ratelimit-policy"] == '"elevenlabs.requests_per_minute";q=100;w=60'


# --- the vendor's refusals and failures

REFUSALS = [
    ("invalid_key", 409, "no_usable_key"),
    ("missing_scope", 409, "no_usable_key"),
    ("missing_scope_403", 409, "no_usable_key"),
    ("quota", 502, "vendor_quota_exhausted"),
    ("unusual_activity", 502, "vendor_refused"),
    ("only_for_creator", 502, "vendor_plan_required"),
    ("plan_required", 502, "vendor_plan_required"),
    ("region", 502, "vendor_refused"),
    ("bad_request", 422, "speech_rejected"),
    ("character_limit", 422, "speech_rejected"),
    ("model_not_found", 422, "speech_rejected"),
    ("validation", 422, "speech_rejected"),
    ("validation_object", 422, "speech_rejected"),
    ("voice_not_found", 404, "voice_not_found"),
    ("not_found", 404, "voice_not_found"),
    ("too_early", 502, "vendor_overloaded"),
    ("rate_limit", 502, "vendor_rate_limited"),
    ("concurrent_limit", 502, "vendor_rate_limited"),
    ("overloaded", 502, "vendor_overloaded"),
    ("unavailable", 502, "vendor_overloaded"),
    ("server_error", 502, "vendor_failed"),
    ("gateway_timeout", 502, "vendor_failed"),
    ("html_502", 502, "vendor_failed"),
    ("status_418", 502, "vendor_refused"),
    ("connection_reset", 502, "vendor_failed"),
    ("connection_close", 502, "vendor_failed"),
]


@pytest.mark.parametrize(("fault", "status", "code"), REFUSALS)
async def test_a_refusal_of_the_vendor_is_told_refunded_and_not_charged(
    voice: Voice, fault: str, status: int, code: str
) -> None:
    person = voice.person("free")
    answer = await voice.say(person, f"Hello. [[sim:fault={fault}]]")
    assert (answer.status_code, problem(answer)["code"]) == (status, code)
    assert await voice.usage(person) == []
    again = await voice.say(person, "Hello.")
    assert ";r=4;" in again.headers["ratelimit"].split(", ")[0]
    assert ";r=9994;" in again.headers["ratelimit"].split(", ")[1]


@pytest.mark.parametrize("form", ["string", "list", "old"])
async def test_the_vendors_other_forms_of_refusal_are_read_too(voice: Voice, form: str) -> None:
    person = voice.person()
    answer = await voice.say(person, f"Hi. [[sim:fault=overloaded,form={form}]]")
    assert answer.status_code == 502
    assert problem(answer)["code"] in {"vendor_overloaded", "vendor_rate_limited"}


async def test_how_long_the_vendor_wants_us_to_wait_is_passed_on(voice: Voice) -> None:
    answer = await voice.say(voice.person(), "Hi. [[sim:fault=overloaded,retry_after=7]]")
    assert answer.headers["retry-after"] == "7"


async def test_who_has_no_key_is_told_so_and_not_charged(voice: Voice) -> None:
    person = voice.person()
    del voice.surroundings.egress.keys[person.id, "elevenlabs"]
    answer = await voice.say(person)
    assert (answer.status_code, problem(answer)["code"]) == (409, "no_usable_key")
    person.has_key("sk_again")
    assert await voice.usage(person) == []


async def test_a_keyvault_that_is_gone_is_our_trouble(voice: Voice) -> None:
    voice.surroundings.egress.keyvault_is_down = True
    try:
        person = voice.person()
        answer = await voice.say(person)
    finally:
        voice.surroundings.egress.keyvault_is_down = False
    assert answer.status_code == 503
    assert problem(answer)["dependency"] == "keyvault"
    assert await voice.usage(person) == []


async def test_keys_that_are_withheld_from_voice_are_our_trouble(voice: Voice) -> None:
    voice.surroundings.egress.refusal = (403, "service_stopped")
    try:
        person = voice.person()
        answer = await voice.say(person)
    finally:
        voice.surroundings.egress.refusal = None
    assert (answer.status_code, problem(answer)["code"]) == (503, "keys_withheld")
    assert int(answer.headers["retry-after"]) > 0
    assert await voice.usage(person) == []


async def test_an_egress_that_is_gone_is_our_trouble(surroundings: Surroundings) -> None:
    async with running_voice(surroundings, egress_url="http://127.0.0.1:1") as voice:
        answer = await voice.say(voice.person())
        assert (answer.status_code, problem(answer)["dependency"]) == (503, "egress")


async def test_a_vendor_that_does_not_begin_in_time_has_failed(surroundings: Surroundings) -> None:
    async with running_voice(surroundings, first_byte_seconds=1) as voice:
        person = voice.person()
        answer = await voice.say(person, "Hi. [[sim:first_ms=5000]]")
        assert (answer.status_code, problem(answer)["code"]) == (502, "vendor_failed")
        assert await voice.usage(person) == []


# --- ways to end after audio has begun


@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_a_vendor_that_is_cut_breaks_the_clients_connection_and_is_charged(
    voice: Voice, fault: str
) -> None:
    person = voice.person()
    with pytest.raises(httpx.RemoteProtocolError):
        await voice.say(person, f"A long story. [[sim:chunks=10,at=5,delay_ms=5,fault={fault}]]")
    (served,), (usage,) = person.served(), await voice.usage(person)
    assert served["outcome"] == "cut"
    assert (usage["outcome"], usage["characters"]) == (
        "provider_failed",
        served["usage"]["credits"],
    )


async def test_a_vendor_that_falls_silent_is_a_cut_one(surroundings: Surroundings) -> None:
    async with running_voice(surroundings, silence_seconds=1) as voice:
        person = voice.person()
        with pytest.raises(httpx.RemoteProtocolError):
            await voice.say(person, "A story. [[sim:chunks=10,at=5,fault=stall]]")
        assert [u["outcome"] for u in await voice.usage(person)] == ["provider_failed"]


async def test_a_cut_in_json_is_a_problem_document_and_charged(voice: Voice) -> None:
    person = voice.person()
    answer = await voice.say(
        person,
        "A story. [[sim:chunks=10,at=5,fault=cut]]",
        headers={"accept": "application/json"},
    )
    assert (answer.status_code, problem(answer)["code"]) == (502, "vendor_failed")
    assert [u["outcome"] for u in await voice.usage(person)] == ["provider_failed"]


async def begin(voice: Voice, person: Any, text: str = MANY_PIECES) -> httpx.Response:
    """Start listening; the caller closes the answer."""
    request = voice.client.build_request(
        "POST",
        "/voice/speech",
        json={"text": text, "voice_id": RACHEL},
        headers=person.headers,
    )
    answer = await voice.client.send(request, stream=True)
    assert answer.status_code == 200
    await anext(answer.aiter_raw())
    return answer


async def test_a_client_that_leaves_stops_the_vendor_and_pays_for_the_text(voice: Voice) -> None:
    person = voice.person()
    answer = await begin(voice, person)
    await answer.aclose()
    (usage,) = await voice.usage(person)
    assert (usage["outcome"], usage["characters"]) == ("client_gone", len(MANY_PIECES))
    async with asyncio.timeout(5):
        while person.served()[0]["outcome"] == "running":
            await asyncio.sleep(0.01)
    assert person.served()[0]["outcome"] == "client_gone"


async def test_many_clients_leaving_at_once_are_settled_once_each(voice: Voice) -> None:
    person = voice.person("enterprise")
    answers = await asyncio.gather(*(begin(voice, person) for _ in range(12)))
    await asyncio.gather(*(answer.aclose() for answer in answers))
    usage = await voice.usage(person)
    assert len(usage) == len({each["id"] for each in usage}) == 12


# --- idempotency


async def test_one_key_is_charged_once(voice: Voice) -> None:
    person, headers = voice.person(), {"idempotency-key": "k-1"}
    first = await voice.say(person, headers=headers)
    await voice.until_settled(person)
    second = await voice.say(person, headers=headers)
    other = await voice.say(person, "Something else.", headers=headers)
    assert [a.status_code for a in (first, second, other)] == [200, 409, 422]
    assert problem(second)["code"] == "already_spoken"
    assert problem(second)["speech_id"] == first.headers["x-speech-id"]
    assert problem(other)["code"] == "idempotency_key_reused"
    assert len(await voice.usage(person)) == 1


async def test_a_key_in_use_is_told_to_be_in_use(voice: Voice) -> None:
    person, headers = voice.person(), {"idempotency-key": "k-1"}
    text = "Hi. [[sim:chunks=4,delay_ms=50]]"
    answers = await asyncio.gather(*(voice.say(person, text, headers=headers) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    codes = {problem(a)["code"] for a in answers if a.status_code == 409}
    assert codes <= {"request_in_progress", "already_spoken"}
    assert len(await voice.usage(person)) == 1
    # The losers' reservations came back.
    again = await voice.say(person)
    assert ";r=18;" in again.headers["ratelimit"].split(", ")[0]


async def test_a_key_whose_request_failed_for_free_may_be_used_again(voice: Voice) -> None:
    person, headers = voice.person(), {"idempotency-key": "k-1"}
    voice.surroundings.simulator.add_fault("server_error", vendor="elevenlabs", key=person.key)
    failed = await voice.say(person, headers=headers)
    again = await voice.say(person, headers=headers)
    assert [failed.status_code, again.status_code] == [502, 200]


# --- Valkey gone


async def test_without_valkey_free_waits_and_paid_goes_on_within_the_minutes_limit(
    surroundings: Surroundings,
) -> None:
    async with running_voice(surroundings, cache_url="redis://127.0.0.1:1/0") as voice:
        free, pro = voice.person("free"), voice.person("pro")
        refused = await voice.say(free)
        assert (refused.status_code, problem(refused)["dependency"]) == (503, "cache")
        assert free.served() == []
        answers = await asyncio.gather(*(voice.say(pro) for _ in range(25)))
        counted = Counter(answer.status_code for answer in answers)
        # A minute may turn over in between; never more than two minutes' worth.
        assert 20 <= counted[200] <= 25
        assert counted[200] + counted[503] == 25
        assert "ratelimit" not in answers[0].headers
        assert len(await voice.usage(pro)) == counted[200]


async def test_without_a_database_nothing_is_asked_of_the_vendor(
    surroundings: Surroundings,
) -> None:
    url = "postgresql://nobody:none@127.0.0.1:1"
    settings = surroundings.settings(database_url=url)
    from services.voice.app import create_app
    from tests.support.tokens import serving

    process = create_app(settings)
    async with (
        process.lifespan(),
        serving(process.public) as base_url,
        httpx.AsyncClient(base_url=base_url, trust_env=False) as client,
        serving(process.internal) as internal_url,
    ):
        person = Voice(surroundings, client, process, None, base_url).person()  # type: ignore[arg-type]
        answer = await client.post(
            "/voice/speech", json={"text": "Hi.", "voice_id": RACHEL}, headers=person.headers
        )
        assert (answer.status_code, problem(answer)["dependency"]) == (503, "database")
        assert person.served() == []
        ready = await client.get(f"{internal_url}/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"]["database"] == "dependency_unavailable"


# --- secrets


async def test_neither_key_nor_token_nor_text_is_ever_logged(
    voice: Voice, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    person = voice.person()
    secret_text = "Nobody else should read this"
    await voice.say(person, secret_text)
    await voice.say(person, f"{secret_text} [[sim:fault=invalid_key]]")
    with pytest.raises(httpx.RemoteProtocolError):
        await voice.say(person, f"{secret_text} [[sim:chunks=10,at=5,delay_ms=5,fault=cut]]")
    await voice.until_settled(person)
    captured = capfd.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert "speech_settled" in logged
    token = person.headers["authorization"].removeprefix("Bearer ")
    for secret in (person.key, token, token.split(".")[2], secret_text):
        assert secret not in logged


async def test_a_token_ends_with_its_session(voice: Voice) -> None:
    ada, sign_in = voice.person(), uuid4()
    token = voice.surroundings.mint.token(ada.id, tier="pro", sid=str(sign_in))
    headers = {"authorization": f"Bearer {token}"}
    assert (await voice.say(ada, headers=headers)).status_code == 200
    async with open_cache(voice.surroundings.cache_url) as cache:
        await EndedSessions(cache).tell([sign_in])
    refused = await eventually(
        lambda: voice.client.get("/voice/voices", headers=headers),
        lambda answer: answer.status_code != 200,
    )
    assert (refused.status_code, problem(refused)["code"]) == (401, "session_ended")
    assert (await voice.say(ada, headers=headers)).status_code == 401
    assert len(await voice.usage(ada)) == 1
