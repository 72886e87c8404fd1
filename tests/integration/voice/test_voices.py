"""`GET /voice/voices…` through the real service."""

from __future__ import annotations

from typing import Any

import pytest

from shared.limits.admission import tier_key
from shared.valkey import open_cache
from tests.support.voice_service import Person, Voice, problem

RACHEL = "21m00Tcm4TlvDq8ikWAM"
LIBRARY = "simulatedlibrary0001"


async def test_voices_are_listed_as_the_tier_includes_them(voice: Voice) -> None:
    listed = {}
    for tier in ("free", "pro"):
        answer = await voice.client.get("/voice/voices", headers=voice.person(tier).headers)
        assert answer.json()["next_page_token"] is None
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
    defaults = {
        "stability": 0.75,
        "similarity_boost": 0.75,
        "style": 0.0,
        "use_speaker_boost": False,
        "speed": None,
    }
    assert settings.json() == {
        "settings": defaults,
        "defaults": defaults,
        "own": dict.fromkeys(defaults),
        "recommended": {
            "stability": 0.5,
            "similarity_boost": 0.75,
            "style": 0.0,
            "use_speaker_boost": True,
            "speed": 1.0,
        },
    }


@pytest.mark.parametrize(
    ("size", "after", "told"),
    [
        ("limit", "cursor", "next_cursor"),
        ("page_size", "next_page_token", "next_page_token"),  # as they were called here first
    ],
)
async def test_a_page_leads_to_the_next_until_all_were_seen(
    voice: Voice, size: str, after: str, told: str
) -> None:
    headers = voice.person("pro").headers
    seen: list[str] = []
    token, pages = None, 0
    while pages == 0 or token is not None:
        query = {size: 5} | ({after: token} if token else {})
        answer = await voice.client.get("/voice/voices", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        seen += [each["voice_id"] for each in answer.json()["data"]]
        token, pages = answer.json()[told], pages + 1
    assert pages == 3
    assert len(seen) == len(set(seen)) == 13
    # A page that the tier leaves nothing of is still a page.
    query = {size: 1, after: "12"}
    last = await voice.client.get(
        "/voice/voices", params=query, headers=voice.person("free").headers
    )
    assert last.json() == {"data": [], "next_cursor": None, "next_page_token": None}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"search": "rach"}, {"Rachel"}),
        ({"search": "nobody is called this"}, set()),
        ({"gender": "female", "search": "swedish"}, {"Charlotte"}),
        ({"category": "premium"}, {"Library Voice"}),
        # It stands on the third of the vendor's pages: those before hold none that fits.
        ({"category": "premium", "page_size": 4}, {"Library Voice"}),
        ({"category": "custom"}, set()),
        ({"category": "basic", "search": "library"}, set()),
        ({"language": "de"}, set()),
    ],
)
async def test_voices_are_looked_for(
    voice: Voice, query: dict[str, str | int], found: set[str]
) -> None:
    headers = voice.person("pro").headers
    answer = await voice.client.get("/voice/voices", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    assert {each["name"] for each in answer.json()["data"]} == found
    assert answer.json()["next_cursor"] is None


async def test_what_the_tier_leaves_out_is_shown_on_request(voice: Voice) -> None:
    answer = await voice.client.get(
        "/voice/voices?include_unavailable=true", headers=voice.person("free").headers
    )
    listed = {each["voice_id"]: each for each in answer.json()["data"]}
    assert (listed[RACHEL]["included"], listed[RACHEL]["upgrade_tier"]) == (True, None)
    assert (listed[LIBRARY]["included"], listed[LIBRARY]["upgrade_tier"]) == (False, "pro")


@pytest.mark.parametrize(
    "query",
    [
        {"page_size": 0},
        {"page_size": 101},
        {"category": "royal"},
        {"next_page_token": "a b"},
        {"language": "../user"},
        {"search": ""},
        {"limit": 0},
        {"cursor": ""},
        {"page": 5},
    ],
)
async def test_a_search_that_is_none_is_refused(voice: Voice, query: dict[str, str | int]) -> None:
    person = voice.person()
    answer = await voice.client.get("/voice/voices", params=query, headers=person.headers)
    assert answer.status_code == 422, answer.text
    assert person.id not in {call.grant.user_id for call in voice.surroundings.egress.calls}


async def test_own_settings_are_kept_used_and_given_back(voice: Voice) -> None:
    person, path = voice.person(), f"/voice/voices/{RACHEL}/settings"

    async def change(body: dict[str, object], headers: dict[str, str]) -> dict[str, Any]:
        answer = await voice.client.patch(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    changed = await change({"stability": 0.25, "speed": 1.1}, person.headers)
    assert changed["settings"]["stability"] == changed["own"]["stability"] == 0.25
    assert changed["settings"]["style"] == 0.0
    assert changed["own"]["style"] is None
    told = await change({"style": 0.5, "speed": None}, person.headers)
    assert (told["own"]["stability"], told["own"]["style"], told["own"]["speed"]) == (
        0.25,
        0.5,
        None,
    )
    # Somebody else's are their own.
    other = await voice.client.get(path, headers=voice.person().headers)
    assert set(other.json()["own"].values()) == {None}

    answer = await voice.say(person, settings={"style": 0.1})
    assert answer.status_code == 200

    empty = await change({"stability": None, "style": None}, person.headers)
    assert empty["settings"] == empty["defaults"]
    kept = "select count(*) from voice_settings where user_id = $1"
    assert await voice.database.fetchrow(kept, person.id) == (0,)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"stability": 1.5}, 422),
        ({"speed": 0.5}, 422),
        ({"clone_strength": 1}, 422),
        ({"use_speaker_boost": True}, 402),
        ({}, 200),
    ],
)
async def test_settings_are_checked(voice: Voice, body: dict[str, object], status: int) -> None:
    answer = await voice.client.patch(
        f"/voice/voices/{RACHEL}/settings", json=body, headers=voice.person("free").headers
    )
    assert answer.status_code == status, answer.text


async def test_settings_of_no_voice_are_not_kept(voice: Voice) -> None:
    person = voice.person()
    answer = await voice.client.patch(
        "/voice/voices/nobodysvoice/settings", json={"style": 1}, headers=person.headers
    )
    assert answer.status_code == 404
    kept = await voice.database.fetch("select from voice_settings where user_id = $1", person.id)
    assert kept == []


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
    assert (call.grant.provider, call.path) == ("elevenlabs", "/elevenlabs/v2/voices")


async def test_strangers_see_nothing(voice: Voice) -> None:
    for path in ("/voice/voices", f"/voice/voices/{RACHEL}", f"/voice/voices/{RACHEL}/settings"):
        assert (await voice.client.get(path)).status_code == 401


async def test_the_service_describes_itself(voice: Voice) -> None:
    document = (await voice.client.get("/openapi.json")).json()
    assert set(document["paths"]) >= {
        "/voice/voices",
        "/voice/voices/{voice_id}",
        "/voice/voices/{voice_id}/settings",
        "/voice/speech",
    }
    spoken = document["paths"]["/voice/speech"]["post"]["responses"]["200"]["content"]
    assert {"application/json", "audio/mpeg"} <= set(spoken)


async def told_of(voice: Voice, person: Person, tier: str) -> None:
    """As auth tells admission of a change, whatever tokens go on claiming."""
    async with open_cache(voice.surroundings.cache_url) as cache:
        await cache.set(tier_key(str(person.id)), tier, ex=60)


@pytest.mark.parametrize(
    "path",
    [
        f"/voice/voices/{LIBRARY}",
        f"/voice/voices/{LIBRARY}/settings",
        f"/elevenlabs/v1/voices/{LIBRARY}",
        f"/elevenlabs/v1/voices/{LIBRARY}/settings",
    ],
)
async def test_a_voice_goes_with_the_tier_and_not_with_the_token(voice: Voice, path: str) -> None:
    was_pro, is_pro = voice.person("pro"), voice.person("free")
    await told_of(voice, was_pro, "free")
    await told_of(voice, is_pro, "pro")
    assert (await voice.client.get(path, headers=was_pro.headers)).status_code == 402
    shown = await voice.client.get(path, headers=is_pro.headers)
    assert (shown.status_code, shown.headers.get("x-token-refresh")) == (200, "tier"), shown.text
    known = await voice.client.get(path, headers=voice.person("pro").headers)
    assert (known.status_code, known.headers.get("x-token-refresh")) == (200, None)


@pytest.mark.parametrize("path", ["/voice/voices", "/elevenlabs/v2/voices?page_size=100"])
async def test_lists_go_with_the_tier_as_well(voice: Voice, path: str) -> None:
    was_pro = voice.person("pro")
    await told_of(voice, was_pro, "free")
    listed = await voice.client.get(path, headers=was_pro.headers)
    found = listed.json().get("data") or listed.json()["voices"]
    assert LIBRARY not in {each["voice_id"] for each in found}
    assert listed.headers["x-token-refresh"] == "tier"


async def test_settings_and_models_go_with_the_tier_as_well(voice: Voice) -> None:
    was_pro = voice.person("pro")
    await told_of(voice, was_pro, "free")
    boosted = {"use_speaker_boost": True}
    ours = await voice.client.patch(
        f"/voice/voices/{RACHEL}/settings", json=boosted, headers=was_pro.headers
    )
    sdks = await voice.client.post(
        f"/elevenlabs/v1/voices/{RACHEL}/settings/edit", json=boosted, headers=was_pro.headers
    )
    assert (ours.status_code, sdks.status_code) == (402, 402)
    models = await voice.client.get("/elevenlabs/v1/models", headers=was_pro.headers)
    free = await voice.client.get("/elevenlabs/v1/models", headers=voice.person("free").headers)
    assert models.json() == free.json()
    assert models.headers["x-token-refresh"] == "tier"
