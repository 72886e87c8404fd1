"""`POST /voice/voices` and `DELETE /voice/voices/{id}` through the real service."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from services.voice.actions.forget_lost_clones import ForgetLostClones
from services.voice.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from tests.support.recordings import flac, form_of, m4a, mp3, ogg, wav
from tests.support.tokens import identity_of
from tests.support.voice_service import Person, Surroundings, Voice, problem
from tests.support.voice_studio import three_takes

RACHEL = "21m00Tcm4TlvDq8ikWAM"


async def clone(
    voice: Voice, person: Person, *samples: bytes, key: str | None = None, **form: Any
) -> httpx.Response:
    headers = person.headers | ({"idempotency-key": key} if key else {})
    return await voice.client.post("/voice/voices", headers=headers, **form_of(*samples, **form))


async def told(voice: Voice, person: Person) -> list[dict[str, Any]]:
    rows = await voice.database.fetch(
        "select envelope from outbox where envelope->>'subject' = $1 order by created_at, event_id",
        str(person.id),
    )
    return [{"type": row["envelope"]["type"], **row["envelope"]["data"]} for row in rows]


def asked(voice: Voice, person: Person) -> list[tuple[str, str]]:
    """What the vendor was asked with this user's key."""
    return [
        (call.method, call.path.removeprefix("/elevenlabs"))
        for call in voice.surroundings.egress.calls
        if call.grant.user_id == person.id
    ]


async def test_a_voice_is_made_listed_heard_and_deleted(voice: Voice) -> None:
    person = voice.person()
    made = await clone(voice, person, *three_takes(), labels='{"language": "en"}', name="Mine")
    assert made.status_code == 201, made.text
    body = made.json()
    assert (body["name"], body["category"], body["requires_verification"]) == (
        "Mine",
        "custom",
        False,
    )
    assert len(set(body["sample_sha256s"])) == 3
    voice_id = body["voice_id"]

    listed = await voice.client.get("/voice/voices?category=custom", headers=person.headers)
    [own] = listed.json()["data"]
    assert (own["voice_id"], own["cloned_here"], own["name"]) == (voice_id, True, "Mine")
    assert own["labels"] == {"language": "en"}
    assert (await voice.say(person, voice_id=voice_id)).status_code == 200

    gone = await voice.client.delete(f"/voice/voices/{voice_id}", headers=person.headers)
    assert (gone.status_code, gone.content) == (204, b"")
    assert ("DELETE", f"/v1/voices/{voice_id}") in asked(voice, person)
    for answer in (
        await voice.client.get(f"/voice/voices/{voice_id}", headers=person.headers),
        await voice.client.delete(f"/voice/voices/{voice_id}", headers=person.headers),
        await voice.say(person, voice_id=voice_id),
    ):
        assert answer.status_code == 404, answer.text
    events = [one for one in await told(voice, person) if one["type"].startswith("voice.")]
    assert [one["type"] for one in events] == [
        "voice.consent_given",
        "voice.cloned",
        "voice.removed",
    ]
    assert {one["clone_id"] for one in events} == {events[0]["clone_id"]}
    assert events[0]["sample_sha256s"] == body["sample_sha256s"]
    assert [one.get("voice_id") for one in events] == [None, voice_id, voice_id]
    assert (
        await voice.database.fetch("select from cloned_voice where user_id = $1", person.id) == []
    )


@pytest.mark.parametrize("sample", [wav(12), mp3(12), flac(12), ogg(12), m4a(12)])
async def test_recordings_of_each_kind_are_taken_whatever_they_are_called(
    voice: Voice, sample: bytes
) -> None:
    person = voice.person()
    made = await clone(voice, person, sample, names={0: "holiday.txt"})
    assert made.status_code == 201, made.text


@pytest.mark.parametrize(
    ("samples", "code", "facts"),
    [
        ([wav(12), b""], "sample_refused", {"sample": 2, "reason": "empty"}),
        ([wav(12), b"I am no sound. " * 99], "sample_refused", {"sample": 2, "reason": "no_audio"}),
        ([wav(12), wav(5)[:-9_000]], "sample_refused", {"sample": 2, "reason": "cut_off"}),
        ([wav(12), b"RIFF\0\0\0\0WAVE"], "sample_refused", {"sample": 2, "reason": "no_audio"}),
        ([wav(12), wav(0.5)], "sample_refused", {"sample": 2, "reason": "too_short"}),
        ([m4a(12, handler=b"vide")], "sample_refused", {"sample": 1, "reason": "no_audio"}),
        ([wav(5)], "samples_refused", {"reason": "too_short_together"}),
        ([mp3(620)], "samples_refused", {"reason": "too_long_together"}),
        ([wav(1)] * 26, "samples_refused", {"reason": "too_many"}),
        ([bytes((10 << 20) + 1)], "sample_refused", {"sample": 1, "reason": "too_large"}),
        ([], "samples_refused", {"reason": "none"}),
    ],
)
async def test_what_is_no_sample_never_reaches_the_vendor(
    voice: Voice, samples: list[bytes], code: str, facts: dict[str, Any]
) -> None:
    person = voice.person()
    answer = await clone(voice, person, *samples, names={1: "speech.mp3"})
    assert answer.status_code == 422, answer.text
    document = problem(answer)
    assert document["code"] == code
    assert {name: document.get(name) for name in facts} == facts
    assert asked(voice, person) == []
    assert await told(voice, person) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"consent": "false"}, "consent_missing"),
        ({"consent": ""}, "consent_missing"),
        ({"consent": "perhaps"}, "clone_not_described"),
        ({"name": ""}, "clone_not_described"),
        ({"name": "x" * 101}, "clone_not_described"),
        ({"name": "a\x00b"}, "clone_not_described"),
        ({"labels": "[1]"}, "clone_not_described"),
        ({"labels": '{"a": 1}'}, "clone_not_described"),
        ({"labels": "{"}, "clone_not_described"),
        ({"remove_background_noise": "a little"}, "clone_not_described"),
        ({"description": "x" * 20_000}, "not_a_form"),
        ({str(n): "x" for n in range(20)}, "not_a_form"),
    ],
)
async def test_fields_are_checked(voice: Voice, fields: dict[str, str], code: str) -> None:
    person = voice.person()
    answer = await clone(voice, person, wav(12), **fields)
    assert (answer.status_code, problem(answer)["code"]) == (422, code)
    assert asked(voice, person) == []


async def test_a_missing_consent_is_told_its_words(voice: Voice) -> None:
    document = problem(await clone(voice, voice.person(), wav(12), consent="no"))
    assert "agreed" in document["consent_text"]
    assert document["consent_version"]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"not a form at all", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (
            b'--x\r\ncontent-disposition: form-data; name="name"\r\n\r\n'
            + b"a" * 90
            + b"\r\n--x--\r\n",
            "multipart/form-data; boundary=x; charset=idna",
        ),
        (
            b'--x\r\ncontent-disposition: form-data; name="samples"; filename="\\ud800"\r\n\r\n'
            b"not a sound\r\n"
            b'--x\r\ncontent-disposition: form-data; name="name"\r\n\r\nA\r\n'
            b'--x\r\ncontent-disposition: form-data; name="consent"\r\n\r\ntrue\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=unicode_escape",
        ),
        (b"name=A&consent=true&samples=x", "application/x-www-form-urlencoded"),
        (b'{"name": "A"}', "application/json"),
    ],
)
async def test_any_other_body_is_refused(voice: Voice, content: bytes, content_type: str) -> None:
    person = voice.person()
    headers = person.headers | {"content-type": content_type}
    answer = await voice.client.post("/voice/voices", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert asked(voice, person) == []


async def test_the_tier_is_looked_at_before_the_samples(voice: Voice) -> None:
    person = voice.person("free")
    answer = await clone(voice, person, b"no sound")
    assert answer.status_code == 402
    assert problem(answer)["upgrade_tier"] == "pro"
    assert asked(voice, person) == []


async def test_strangers_make_and_delete_nothing(voice: Voice) -> None:
    assert (await voice.client.post("/voice/voices", **form_of(wav(12)))).status_code == 401
    assert (await voice.client.delete(f"/voice/voices/{RACHEL}")).status_code == 401


async def test_a_form_may_be_large_and_no_other_body(voice: Voice) -> None:
    person = voice.person()
    too_much = [bytes(10 << 20)] * 5
    answer = await clone(voice, person, *too_much)
    assert (answer.status_code, problem(answer)["code"]) == (413, "too_large")
    text = await voice.client.post("/voice/speech", content=bytes(2 << 20), headers=person.headers)
    assert text.status_code == 413
    document = (await voice.client.get("/openapi.json")).json()
    for path in ("/voice/voices", "/voice/speech"):
        assert "413" in document["paths"][path]["post"]["responses"]
    # Under the limit of the body, over that of all samples.
    full = await clone(voice, person, *[bytes(10 << 20)] * 4, b"1")
    assert problem(full)["reason"] == "too_large_together"
    assert asked(voice, person) == []


async def test_one_key_makes_one_voice(voice: Voice) -> None:
    person = voice.person()
    first = await clone(voice, person, wav(12), key="one")
    again = await clone(voice, person, wav(12), key="one")
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = await clone(voice, person, wav(13), key="one")
    assert (other.status_code, problem(other)["code"]) == (422, "idempotency_key_reused")
    assert asked(voice, person) == [("POST", "/v1/voices/add")]
    at_once = await asyncio.gather(*(clone(voice, person, wav(12), key="two") for _ in range(4)))
    assert {answer.status_code for answer in at_once} <= {201, 409}
    assert len(asked(voice, person)) == 2


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("sk_free_", 502, "vendor_plan_required"),
        ("sk_invalid_", 409, "no_usable_key"),
        ("sk_noquota_", 502, "vendor_quota_exhausted"),
        ("sk_unreachable_", 502, "vendor_overloaded"),
    ],
)
async def test_what_the_vendor_refuses_leaves_no_voice(
    voice: Voice, key: str, status: int, code: str
) -> None:
    person = voice.person().has_key(f"{key}{uuid4().hex}")
    answer = await clone(voice, person, wav(12), key="k")
    assert (answer.status_code, problem(answer)["code"]) == (status, code)
    kept = await voice.database.fetch("select from cloned_voice where user_id = $1", person.id)
    assert kept == []
    person.has_key(f"sk_{uuid4().hex}")
    assert (await clone(voice, person, wav(12), key="k")).status_code == 201


async def test_full_slots_at_the_vendor_are_the_users_to_mend(voice: Voice) -> None:
    person = voice.person()
    first = (await clone(voice, person, mp3(11))).json()
    simulated = f"{voice.surroundings.simulator.elevenlabs}/v1/voices/add"
    async with httpx.AsyncClient(trust_env=False, headers={"xi-api-key": person.key}) as vendor:
        for _ in range(29):
            answer = await vendor.post(simulated, data={"name": "x"}, files={"files": b"x"})
            assert answer.status_code == 200
    full = await clone(voice, person, mp3(11))
    assert (full.status_code, problem(full)["code"]) == (409, "voice_slots_full")
    await voice.client.delete(f"/voice/voices/{first['voice_id']}", headers=person.headers)
    assert (await clone(voice, person, mp3(11))).status_code == 201


async def test_only_who_had_a_voice_made_may_delete_it(voice: Voice) -> None:
    owner = voice.person()
    voice_id = (await clone(voice, owner, wav(12))).json()["voice_id"]
    # A colleague with the same key, as in an organisation, reaches it at the vendor all the same.
    colleague = voice.person().has_key(owner.key)
    for person, status, code in (
        (colleague, 404, "voice_not_found"),
        (voice.person(), 404, "voice_not_found"),
    ):
        answer = await voice.client.delete(f"/voice/voices/{voice_id}", headers=person.headers)
        assert (answer.status_code, problem(answer)["code"]) == (status, code)
    stock = await voice.client.delete(f"/voice/voices/{RACHEL}", headers=owner.headers)
    assert (stock.status_code, problem(stock)["code"]) == (409, "voice_not_cloned_here")
    assert "DELETE" not in [method for method, _ in asked(voice, owner)]


async def test_a_vendor_that_is_away_is_told_when_it_is_back(voice: Voice) -> None:
    person = voice.person()
    voice_id = (await clone(voice, person, wav(12))).json()["voice_id"]
    voice.surroundings.egress.out_of_reach[person.id] = 1
    answer = await voice.client.delete(f"/voice/voices/{voice_id}", headers=person.headers)
    assert answer.status_code == 502, answer.text
    rows = await voice.database.fetch(
        "select state from cloned_voice where user_id = $1", person.id
    )
    assert [row["state"] for row in rows] == ["removing"]
    listed = await voice.client.get("/voice/voices", headers=person.headers)
    assert voice_id not in [each["voice_id"] for each in listed.json()["data"]]
    assert ("DELETE", f"/v1/voices/{voice_id}") in asked(voice, person)
    assert [one["type"] for one in await told(voice, person)][-1] == "voice.removed"


async def test_voices_whose_making_nobody_saw_end_are_let_go(voice: Voice) -> None:
    person = voice.person()
    await clone(voice, person, wav(12))
    await clone(voice, person, wav(13))
    await voice.database.execute(
        "update cloned_voice set state = 'making', voice_id = null,"
        " created_at = now() - interval '1 hour'"
        " where id = (select min(id::text)::uuid from cloned_voice where user_id = $1)",
        person.id,
    )
    forget = ForgetLostClones(partial(SqlWork, voice.database), SystemClock())
    assert await forget() == 1
    rows = await voice.database.fetch(
        "select state from cloned_voice where user_id = $1", person.id
    )
    assert [row["state"] for row in rows] == ["ready"]


async def test_the_export_holds_settings_and_voices(
    voice: Voice, surroundings: Surroundings
) -> None:
    person = voice.person()
    made = (await clone(voice, person, wav(12))).json()
    path = f"/voice/voices/{RACHEL}/settings"
    await voice.client.patch(path, json={"style": 0.5}, headers=person.headers)
    identity = identity_of(surroundings.identity_trust_file.parent, "auth")
    internal = httpx.ASGITransport(voice.process.internal)
    async with httpx.AsyncClient(transport=internal, base_url="http://voice") as client:
        answer = await client.get(
            f"/internal/users/{person.id}/export",
            headers={"authorization": f"Bearer {identity.token_for('voice')}"},
        )
    export = orjson.loads(answer.content)
    [settings], [cloned] = export["voice_settings"], export["cloned_voices"]
    assert (settings["voice_id"], settings["settings"]) == (RACHEL, {"style": 0.5})
    assert (cloned["voice_id"], cloned["state"]) == (made["voice_id"], "ready")
    assert cloned["sample_sha256s"] == made["sample_sha256s"]
