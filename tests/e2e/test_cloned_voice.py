"""A voice of somebody's own, from the samples to its end, through the gateway."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.recordings import form_of
from tests.support.suite import Person, Suite, a_person, eventually
from tests.support.suite_organisations import buy, found, join
from tests.support.voice_studio import three_takes

pytestmark = pytest.mark.e2e


async def at_the_vendor(suite: Suite, person: Person) -> list[str]:
    """The clones that the vendor itself has for the key."""
    headers = {"xi-api-key": person.api_key}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as vendor:
        answer = await vendor.get(f"{suite.simulator.elevenlabs}/v1/voices")
    return [one["voice_id"] for one in answer.json()["voices"] if one["category"] == "cloned"]


async def test_a_voice_is_made_heard_and_deleted_and_the_trail_says_so(
    suite: Suite, grace: Person
) -> None:
    client = grace.client
    await grace.store_key("elevenlabs")
    refused = await client.post("/voice/voices", **form_of(*three_takes()))
    assert (refused.status_code, refused.json()["upgrade_tier"]) == (402, "pro")
    await grace.become("pro")

    made = await client.post("/voice/voices", **form_of(*three_takes()))
    assert made.status_code == 201, made.text
    voice_id = made.json()["voice_id"]
    assert await at_the_vendor(suite, grace) == [voice_id]
    spoken = await client.post("/voice/speech", json={"text": "It is me.", "voice_id": voice_id})
    assert (spoken.status_code, spoken.headers["content-type"]) == (200, "audio/mpeg")

    gone = await client.delete(f"/voice/voices/{voice_id}")
    assert gone.status_code == 204, gone.text
    assert await at_the_vendor(suite, grace) == []

    async def trail() -> list[dict[str, Any]]:
        entries = (await client.get("/auth/audit")).json()["data"]
        return [entry for entry in entries if entry["action"].startswith("voice.")]

    entries = await eventually(trail, lambda seen: len(seen) == 3)
    by_action = {entry["action"]: entry["facts"] for entry in entries}
    assert by_action.keys() == {"voice.consent_given", "voice.cloned", "voice.removed"}
    assert by_action["voice.consent_given"]["sample_sha256s"] == made.json()["sample_sha256s"]
    assert by_action["voice.cloned"]["voice_id"] == voice_id
    assert by_action["voice.cloned"]["consent_version"] == made.json()["consent_version"]
    assert by_action["voice.removed"]["voice_id"] == voice_id


async def test_who_deletes_their_account_leaves_no_voice_at_the_vendor(
    suite: Suite, grace: Person
) -> None:
    await grace.store_key("elevenlabs")
    await grace.become("pro")
    for _ in range(2):
        made = await grace.client.post("/voice/voices", **form_of(*three_takes()))
        assert made.status_code == 201, made.text
    assert len(await at_the_vendor(suite, grace)) == 2

    answer = await grace.client.delete("/auth/me")
    assert (answer.status_code, answer.json()["voices_left"]) == (202, 0), answer.text
    # By then already: the key is shredded at any moment from now on.
    assert await at_the_vendor(suite, grace) == []


async def test_a_voice_of_an_organisations_key_is_its_makers_and_outlasts_them_for_admins(
    suite: Suite, grace: Person
) -> None:
    ben, eve = a_person(suite), a_person(suite)
    firm = await found(grace, "Difference Engines")
    await buy(grace, firm, seats=3)
    for person in (ben, eve):
        await person.register()
        await join(suite, grace, firm, person)
    for person in (grace, ben, eve):
        await person.refresh()
    key = f"sk_{uuid4().hex}"
    path = f"/keys/organisations/{firm}/elevenlabs"
    assert (await grace.client.put(path, json={"api_key": key})).status_code == 202

    async def state() -> str:
        return str((await grace.client.get(path)).json()["status"])

    await eventually(state, lambda seen: seen == "valid")
    made = await ben.client.post("/voice/voices", **form_of(*three_takes()))
    assert made.status_code == 201, made.text
    voice_id, speech = made.json()["voice_id"], {"text": "It is me."}
    for person, status in ((ben, 200), (eve, 404), (grace, 404)):
        said = await person.client.post("/voice/speech", json=speech | {"voice_id": voice_id})
        assert said.status_code == status, said.text

    async def listed(by: Person) -> list[tuple[str, str | None]]:
        answer = await by.client.get(f"/voice/organisations/{firm}/voices")
        return [(each["voice_id"], each["user_id"]) for each in answer.json().get("data", [])]

    assert (await listed(grace), await listed(eve)) == ([(voice_id, ben.id)], [])
    left = await grace.client.delete(f"/auth/organisations/{firm}/members/{ben.id}")
    assert left.status_code == 204, left.text
    await ben.refresh()
    gone = await ben.client.delete("/auth/me")
    assert (gone.status_code, gone.json()["voices_left"]) == (202, 1), gone.text

    async def by_grace() -> list[tuple[str, str | None]]:
        return await listed(grace)

    await eventually(by_grace, lambda seen: seen == [(voice_id, None)])
    ben.api_key = key
    assert await at_the_vendor(suite, ben) == [voice_id]
    path = f"/voice/organisations/{firm}/voices/{voice_id}"
    assert (await grace.client.delete(path)).status_code == 204
    assert (await at_the_vendor(suite, ben), await listed(grace)) == ([], [])
    for person in (ben, eve):
        await person.client.aclose()
