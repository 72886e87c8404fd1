"""`GET /voice/voices…` through the real service."""

from __future__ import annotations

import pytest

from tests.support.voice_service import Voice, problem

RACHEL = "21m00Tcm4TlvDq8ikWAM"
LIBRARY = "simulatedlibrary0001"


async def test_voices_are_listed_as_the_tier_includes_them(voice: Voice) -> None:
    listed = {}
    for tier in ("free", "pro"):
        answer = await voice.client.get("/voice/voices", headers=voice.person(tier).headers)
        assert answer.json()["next_cursor"] is None
        listed[tier] = {each["voice_id"]: each for each in answer.json()["data"]}
    assert listed["free"].keys() == listed["pro"].keys() - {LIBRARY}
    assert listed["pro"][LIBRARY]["category"] == "premium"
    rachel = listed["free"][RACHEL]
    assert (rachel["name"], rachel["category"]) == ("Rachel", "basic")
    assert rachel["labels"]["accent"] == "american"
    assert rachel["preview_url"]


async def test_one_voice_and_its_settings_are_read(voice: Voice) -> None:
    headers = voice.person("free").headers
    one = await voice.client.get(f"/voice/voices/{RACHEL}", headers=headers)
    assert one.json()["voice_id"] == RACHEL
    settings = await voice.client.get(f"/voice/voices/{RACHEL}/settings", headers=headers)
    assert settings.json() == {
        "stability": 0.5,
        "similarity_boost": 0.75,
        "style": 0.0,
        "use_speaker_boost": True,
        "speed": 1.0,
    }


@pytest.mark.parametrize("suffix", ["", "/settings"])
async def test_voices_outside_the_tier_and_unknown_ones_are_told_apart(
    voice: Voice, suffix: str
) -> None:
    headers = voice.person("free").headers
    outside = await voice.client.get(f"/voice/voices/{LIBRARY}{suffix}", headers=headers)
    assert (outside.status_code, problem(outside)["upgrade_tier"]) == (402, "pro")
    for unknown in ("nobodysvoice", "..%2fuser", "%00", "a" * 65, "%F0%9F%98%80"):
        answer = await voice.client.get(f"/voice/voices/{unknown}{suffix}", headers=headers)
        assert answer.status_code == 404, unknown


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("sk_invalid_1", 409, "no_usable_key"),
        ("sk_limited_1", 409, "no_usable_key"),
        ("sk_noquota_1", 502, "vendor_quota_exhausted"),
        ("sk_unreachable_1", 502, "vendor_overloaded"),
    ],
)
async def test_a_key_that_can_not_read_voices_says_why(
    voice: Voice, key: str, status: int, code: str
) -> None:
    person = voice.person().has_key(key)
    answer = await voice.client.get("/voice/voices", headers=person.headers)
    assert (answer.status_code, problem(answer)["code"]) == (status, code)


async def test_each_call_is_granted_for_its_user_alone(voice: Voice) -> None:
    person = voice.person()
    await voice.client.get("/voice/voices", headers=person.headers)
    call = voice.surroundings.egress.calls[-1]
    assert (call.grant.user_id, call.grant.service) == (person.id, "voice")
    assert (call.grant.provider, call.path) == ("elevenlabs", "/elevenlabs/v1/voices")


async def test_strangers_see_nothing(voice: Voice) -> None:
    for path in ("/voice/voices", f"/voice/voices/{RACHEL}", f"/voice/voices/{RACHEL}/settings"):
        assert (await voice.client.get(path)).status_code == 401


async def test_the_service_describes_itself(voice: Voice) -> None:
    document = (await voice.client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/voice/voices",
        "/voice/voices/{voice_id}",
        "/voice/voices/{voice_id}/settings",
        "/voice/speech",
    }
    spoken = document["paths"]["/voice/speech"]["post"]["responses"]["200"]["content"]
    assert set(spoken) == {"application/json", "audio/mpeg"}
