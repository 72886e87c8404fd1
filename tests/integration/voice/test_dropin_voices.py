"""ElevenLabs' voices, models and subscription under `/elevenlabs`, within the tier."""

from __future__ import annotations

from typing import Any, get_type_hints

import httpx
import pytest
from elevenlabs.types import Subscription as TheirSubscription
from pydantic import TypeAdapter

from tests.integration.voice.test_dropin import LIBRARY, RACHEL, call, detail, say
from tests.support.recordings import wav
from tests.support.voice_service import Person, Voice

VOICES = "/elevenlabs/v1/voices"


async def get(voice: Voice, person: Person, path: str) -> httpx.Response:
    return await call(voice, person, f"/elevenlabs{path}", "GET")


def ids(answer: httpx.Response) -> list[str]:
    return [one["voice_id"] for one in answer.json()["voices"]]


@pytest.mark.parametrize("path", ["/v1/voices", "/v2/voices?page_size=100"])
async def test_lists_hold_what_the_tier_includes_in_the_vendors_words(
    voice: Voice, path: str
) -> None:
    free = await get(voice, voice.person("free"), path)
    pro = await get(voice, voice.person("pro"), path)
    assert (free.status_code, pro.status_code) == (200, 200)
    assert RACHEL in ids(free)
    assert LIBRARY not in ids(free)
    assert {*ids(free), LIBRARY} == set(ids(pro))
    assert all(one["high_quality_base_model_ids"] for one in free.json()["voices"])


async def test_pages_are_the_vendors_and_count_what_is_included(voice: Voice) -> None:
    free = voice.person("free")
    first = await get(voice, free, "/v2/voices?page_size=10&include_total_count=true")
    body = first.json()
    assert (len(body["voices"]), body["has_more"], body["total_count"]) == (10, True, 12)
    rest = await get(voice, free, f"/v2/voices?next_page_token={body['next_page_token']}")
    assert (len(rest.json()["voices"]), rest.json()["has_more"]) == (2, False)
    assert not set(ids(first)) & set(ids(rest))
    found = await get(voice, free, "/v2/voices?search=rachel&voice_ids=a&voice_ids=" + RACHEL)
    assert ids(found) == [RACHEL]
    none = await get(voice, free, "/v2/voices?category=professional")
    assert none.json() == {"voices": [], "has_more": False, "total_count": 0}


async def test_one_voice_and_one_that_is_not_included(voice: Voice) -> None:
    free = voice.person("free")
    assert (await get(voice, free, f"/v1/voices/{RACHEL}")).json()["name"] == "Rachel"
    refused = await get(voice, free, f"/v1/voices/{LIBRARY}")
    assert (refused.status_code, detail(refused)["upgrade_tier"]) == (402, "pro")
    for path in ("/v1/voices/nobody", "/v1/voices/nobody/settings", "/v1/voices/%20"):
        answer = await get(voice, free, path)
        assert (answer.status_code, detail(answer)["status"]) == (404, "voice_not_found")


async def test_models_are_those_that_the_tier_grants(voice: Voice) -> None:
    async def models(tier: str) -> set[str]:
        answer = await get(voice, voice.person(tier), "/v1/models")
        assert isinstance(answer.json(), list)
        return {model["model_id"] for model in answer.json()}

    assert await models("free") == {"eleven_flash_v2_5"}
    assert await models("pro") == {"eleven_flash_v2_5", "eleven_multilingual_v2"}
    assert "eleven_v4" in await models("enterprise")


async def test_settings_are_kept_here_and_spoken_with(voice: Voice) -> None:
    ada = voice.person("pro")
    path = f"/v1/voices/{RACHEL}/settings"
    default = (await get(voice, ada, "/v1/voices/settings/default")).json()
    assert default == {
        "stability": 0.75,
        "similarity_boost": 0.75,
        "style": 0.0,
        "use_speaker_boost": True,
        "speed": 1.0,
    }
    assert (await get(voice, ada, path)).json() == default
    wish: dict[str, Any] = {"stability": 0.2, "clone_strength": None}
    kept = await call(voice, ada, f"/elevenlabs{path}/edit", json=wish)
    assert (kept.status_code, kept.json()) == (200, {"status": "ok"})
    assert (await get(voice, ada, path)).json() == {**default, "stability": 0.2}
    assert (await say(voice, ada)).status_code == 200


@pytest.mark.parametrize(
    ("tier", "body", "status"),
    [
        ("pro", {"stability": 2}, 422),
        ("pro", {"pitch": 2}, 422),
        ("pro", {"speed": 1.21}, 422),  # which live speech could not have
        ("free", {"use_speaker_boost": True}, 402),
    ],
)
async def test_settings_that_can_not_be_kept(
    voice: Voice, tier: str, body: dict[str, Any], status: int
) -> None:
    path = f"{VOICES}/{RACHEL}/settings/edit"
    answer = await call(voice, voice.person(tier), path, json=body)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])


async def test_a_voice_is_made_spoken_with_and_deleted(voice: Voice) -> None:
    ada = voice.person("pro")
    # As the SDK writes it, who names no labels.
    form = {"name": "Echo of a tone", "labels": "null", "consent": "true"}
    files = {"files": ("a.wav", wav(11), "audio/wav")}
    made = await call(voice, ada, f"{VOICES}/add", data=form, files=files)
    assert made.status_code == 200, made.text
    assert made.json()["requires_verification"] is False
    voice_id = made.json()["voice_id"]
    assert voice_id in ids(await get(voice, ada, "/v1/voices"))
    spoken = await call(voice, ada, f"/elevenlabs/v1/text-to-speech/{voice_id}", json={"text": "a"})
    assert spoken.status_code == 200
    gone = await call(voice, ada, f"{VOICES}/{voice_id}", "DELETE")
    assert (gone.status_code, gone.json()) == (200, {"status": "ok"})
    assert voice_id not in ids(await get(voice, ada, "/v1/voices"))
    kept = await call(voice, ada, f"{VOICES}/{RACHEL}", "DELETE")
    assert (kept.status_code, list(kept.json())) == (403, ["detail"])


async def test_nobodys_voice_is_made_without_a_word_of_consent(voice: Voice) -> None:
    ada = voice.person("pro")
    form, files = {"name": "A tone"}, {"files": ("a.wav", wav(11), "audio/wav")}
    refused = await call(voice, ada, f"{VOICES}/add", data=form, files=files)
    assert (refused.status_code, detail(refused)["code"]) == (422, "consent_missing")
    assert detail(refused)["consent_text"]
    agreed = {"x-voice-consent": "true"}
    files = {"files": ("a.wav", wav(11), "audio/wav")}
    made = await call(voice, ada, f"{VOICES}/add", data=form, files=files, headers=agreed)
    assert made.status_code == 200, made.text
    free = await call(voice, voice.person("free"), f"{VOICES}/add", data=form, files=files)
    assert (free.status_code, detail(free)["code"]) == (402, "cloning_not_in_tier")
    formless = await call(voice, ada, f"{VOICES}/add", json={"name": "A tone"})
    assert (formless.status_code, list(formless.json())) == (422, ["detail"])


async def test_the_subscription_is_the_tier_here(voice: Voice) -> None:
    free = voice.person("free")
    await say(voice, free, text="a" * 100, model_id="eleven_flash_v2_5")
    await voice.until_settled(free)
    told = (await get(voice, free, "/v1/user/subscription")).json()
    assert (told["tier"], told["status"], told["character_limit"]) == ("free", "free", 10_000)
    assert 0 < told["character_count"] <= 100
    assert told["next_character_count_reset_unix"] > 1_790_000_000
    assert not told["can_use_instant_voice_cloning"]
    rich = (await get(voice, voice.person("enterprise"), "/v1/user/subscription")).json()
    assert rich["max_credit_limit_extension"] == "unlimited"
    assert rich["character_limit"] > 10**12
    assert rich["can_use_instant_voice_cloning"]


async def test_the_vendors_sdks_can_read_the_subscription(voice: Voice) -> None:
    """The one for JavaScript reads what its types say, and throws at anything else."""
    told = (await get(voice, voice.person(), "/v1/user/subscription")).json()
    for name, kind in get_type_hints(TheirSubscription).items():
        field = TheirSubscription.model_fields.get(name)
        if field is not None and field.is_required():
            assert TypeAdapter(kind).validate_python(told[name], strict=True) is not None, name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/user"),
        ("GET", "/v1/history"),
        ("POST", "/v1/speech-to-text"),
        ("PUT", "/v1/voices"),
        ("GET", f"/v1/text-to-speech/{RACHEL}"),
        ("POST", "/v1/text-to-speech/a/b"),
        ("DELETE", "/v1/models"),
        ("GET", "/"),
    ],
)
async def test_what_is_not_offered_says_so(voice: Voice, method: str, path: str) -> None:
    answer = await call(voice, voice.person(), f"/elevenlabs{path}", method)
    assert (answer.status_code, detail(answer)["code"]) == (404, "call_not_offered")


@pytest.mark.parametrize(
    "query", ["page_size=0", "page_size=101", "search=" + "a" * 201, "high_quality=so"]
)
async def test_a_bad_search_is_told_in_the_vendors_form(voice: Voice, query: str) -> None:
    answer = await get(voice, voice.person(), f"/v2/voices?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_who_has_no_key_lists_nothing(voice: Voice) -> None:
    person = voice.person()
    del voice.surroundings.egress.keys[person.id, "elevenlabs"]
    for path in ("/v1/voices", "/v2/voices", "/v1/models", f"/v1/voices/{RACHEL}"):
        answer = await get(voice, person, path)
        assert (answer.status_code, detail(answer)["code"]) == (403, "no_usable_key")
    person.has_key("sk_again")
