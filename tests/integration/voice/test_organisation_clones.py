"""Voices that an organisation's key made: whose they are, and who may have them deleted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.voice.actions.forget_user import ForgetUser
from services.voice.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.erasure import ErasureId
from shared.identity import Peers
from shared.ids import UserId
from tests.support.recordings import form_of, wav
from tests.support.revocations import HeardRevocations
from tests.support.tokens import identity_of, serving
from tests.support.voice_service import Person, Surroundings, Voice, problem, running_voice
from tests.support.voice_sockets import at_realtime, at_stream_input


@dataclass
class StandInAuth:
    """Knows who is what in which organisation, and tells voice."""

    peers: Peers
    roles: dict[tuple[UUID, UUID], str] = field(default_factory=dict)
    is_in_trouble: bool = False

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        caller = self.peers.service_of(headers["authorization"].removeprefix("Bearer "))
        assert caller == "voice"
        _, _, _, organisation, _, user = scope["path"].split("/")
        role = self.roles.get((UUID(organisation), UUID(user)))
        body: dict[str, Any] = {"code": "member_not_found"}
        if role is not None:
            body = {"role": role, "may_manage_keys": role in ("owner", "admin")}
        status = 503 if self.is_in_trouble else 200 if role else 404
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@dataclass
class Firm:
    """An organisation whose key an admin, a maker of voices and a colleague use."""

    voice: Voice
    auth: StandInAuth
    id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        self.key = f"sk_{self.id.hex}"
        self.voice.surroundings.egress.owners[self.key] = self.id
        self.admin, self.maker, self.colleague = (
            self.member(role) for role in ("admin", "member", "member")
        )

    def member(self, role: str) -> Person:
        person = self.voice.person("enterprise").has_key(self.key)
        self.auth.roles[self.id, person.id] = role
        return person

    async def clone(self, person: Person) -> str:
        made = await self.call(person, "POST", "/voice/voices", **form_of(wav(12), name="Mine"))
        assert made.status_code == 201, made.text
        return str(made.json()["voice_id"])

    async def call(self, by: Person, method: str, path: str, **parts: Any) -> httpx.Response:
        return await self.voice.client.request(method, path, headers=by.headers, **parts)

    async def voices(self, by: Person) -> httpx.Response:
        return await self.call(by, "GET", f"/voice/organisations/{self.id}/voices")

    async def listed(self) -> list[tuple[str, str | None, str | None, str]]:
        answer = await self.voices(self.admin)
        assert answer.status_code == 200, answer.text
        names = ("voice_id", "name", "user_id", "state")
        return [tuple(each[name] for name in names) for each in answer.json()["data"]]

    async def remove(self, by: Person, voice_id: str) -> httpx.Response:
        path = f"/voice/organisations/{self.id}/voices/{voice_id}"
        return await self.call(by, "DELETE", path)

    async def at_the_vendor(self) -> list[str]:
        url = f"{self.voice.surroundings.simulator.elevenlabs}/v1/voices"
        async with httpx.AsyncClient(trust_env=False, headers={"xi-api-key": self.key}) as vendor:
            voices = (await vendor.get(url)).json()["voices"]
        return [each["voice_id"] for each in voices if each["category"] == "cloned"]

    async def leaves(self, person: Person) -> None:
        """The organisation, and with it the key."""
        del self.auth.roles[self.id, person.id]
        del self.voice.surroundings.egress.keys[person.id, "elevenlabs"]

    async def is_deleted(self, person: Person) -> None:
        forget = ForgetUser(
            partial(SqlWork, self.voice.database), SystemClock(), HeardRevocations()
        )
        await forget.begin([(UserId(person.id), ErasureId(uuid4()))])


@pytest.fixture(scope="module")
async def auth(surroundings: Surroundings) -> AsyncIterator[tuple[StandInAuth, str]]:
    stand_in = StandInAuth(Peers.from_file("auth", surroundings.identity_trust_file))
    async with serving(stand_in) as url:
        yield stand_in, url


@pytest.fixture(scope="module")
async def with_auth(
    surroundings: Surroundings, auth: tuple[StandInAuth, str]
) -> AsyncIterator[Voice]:
    async with running_voice(surroundings, auth_internal_url=auth[1]) as voice:
        yield voice


@pytest.fixture
def firm(with_auth: Voice, auth: tuple[StandInAuth, str]) -> Firm:
    return Firm(with_auth, auth[0])


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    body = body.get("detail") if isinstance(body.get("detail"), dict) else body.get("error", body)
    return answer.status_code, body["code"]


async def test_a_colleague_does_not_speak_with_a_voice_that_is_anothers(firm: Firm) -> None:
    voice_id, call = await firm.clone(firm.maker), firm.call
    speech = {"text": "Hello there.", "voice_id": voice_id}
    openai = {"model": "tts-1", "input": "Hello there.", "voice": voice_id}
    tts, one = f"/elevenlabs/v1/text-to-speech/{voice_id}", f"/voice/voices/{voice_id}"
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/voice/speech", {"json": speech}),
        ("POST", "/voice/speech", {"json": speech | {"cache": False}}),
        ("POST", "/v1/audio/speech", {"json": openai}),
        ("POST", tts, {"json": {"text": "Hello there."}}),
        ("POST", f"{tts}/stream/with-timestamps", {"json": {"text": "Hello there."}}),
        ("GET", one, {}),
        ("GET", f"{one}/settings", {}),
        ("PATCH", f"{one}/settings", {"json": {"style": 0.5}}),
        ("GET", f"/elevenlabs/v1/voices/{voice_id}", {}),
        ("POST", f"/elevenlabs/v1/voices/{voice_id}/settings/edit", {"json": {"style": 0.5}}),
        ("DELETE", f"/elevenlabs/v1/voices/{voice_id}", {}),
        ("DELETE", one, {}),
    ]
    for method, path, parts in asked:
        answer = await call(firm.colleague, method, path, **parts)
        assert code_of(answer) == (404, "voice_not_found"), f"{method} {path}: {answer.text}"
        if method != "DELETE":
            assert (await call(firm.maker, method, path, **parts)).status_code == 200
    assert await firm.voice.speeches(firm.colleague) == []

    token = firm.colleague.headers["authorization"].removeprefix("Bearer ")
    async with at_realtime(firm.voice.url, token) as device:
        await device.utter("Hello.", voice_id=voice_id)
        assert (await device.until("error"))["data"]["code"] == "voice_not_found"
    async with at_stream_input(firm.voice.url, token, voice_id=voice_id) as client:
        await client.say(" ")
        [told], code = await client.rest()
        assert (told["error"], code) == ("voice_not_found", 1008)


async def test_a_colleague_sees_what_was_made_outside_and_nothing_of_others(firm: Firm) -> None:
    voice_id = await firm.clone(firm.maker)
    vendor = f"{firm.voice.surroundings.simulator.elevenlabs}/v1/voices/add"
    async with httpx.AsyncClient(trust_env=False, headers={"xi-api-key": firm.key}) as client:
        made = await client.post(vendor, data={"name": "Outside"}, files={"files": b"x"})
    outside = made.json()["voice_id"]
    seen = {}
    for person in (firm.maker, firm.colleague, firm.admin):
        for path in (
            "/voice/voices",
            "/elevenlabs/v1/voices",
            "/elevenlabs/v2/voices?page_size=100",
        ):
            body = (await firm.call(person, "GET", path)).json()
            found = [each["voice_id"] for each in body.get("data", body.get("voices"))]
            seen[person.id, path] = (voice_id in found, outside in found)
    for (user_id, path), shown in seen.items():
        assert shown == (user_id == firm.maker.id, True), path
    assert (await firm.voice.say(firm.colleague, voice_id=outside)).status_code == 200


async def test_admins_see_and_delete_what_the_key_made(firm: Firm) -> None:
    first, second = await firm.clone(firm.maker), await firm.clone(firm.colleague)
    assert await firm.listed() == [
        (first, "Mine", str(firm.maker.id), "ready"),
        (second, "Mine", str(firm.colleague.id), "ready"),
    ]
    stranger = firm.voice.person()
    for person, expected in (
        (firm.maker, (403, "voice_admin_required")),
        (stranger, (404, "organisation_voices_not_found")),
    ):
        assert code_of(await firm.voices(person)) == expected
        assert code_of(await firm.remove(person, first)) == expected
    assert await firm.at_the_vendor() == [first, second]

    assert (await firm.remove(firm.admin, first)).status_code == 204
    assert await firm.at_the_vendor() == [second]
    assert code_of(await firm.remove(firm.admin, first)) == (404, "voice_not_found")
    assert code_of(await firm.remove(firm.admin, "no-id")) == (404, "voice_not_found")
    told = await firm.voice.database.fetch(
        "select envelope from outbox where envelope->>'subject' = $1"
        " and envelope->>'type' = 'voice.removed'",
        str(firm.maker.id),
    )
    assert [one["envelope"]["data"]["removed_by"] for one in told] == [str(firm.admin.id)]


async def test_a_voice_outlasts_its_makers_seat_and_account_and_admins_delete_it(
    firm: Firm,
) -> None:
    voice_id = await firm.clone(firm.maker)
    await firm.leaves(firm.maker)
    answer = await firm.call(firm.maker, "DELETE", f"/voice/voices/{voice_id}")
    assert code_of(answer) == (409, "no_usable_key")
    assert await firm.listed() == [(voice_id, "Mine", str(firm.maker.id), "removing")]

    await firm.is_deleted(firm.maker)
    assert await firm.listed() == [(voice_id, None, None, "removing")]
    [row] = await firm.voice.database.fetch(
        "select * from cloned_voice where voice_id = $1", voice_id
    )
    assert (row["user_id"], row["name"], row["sample_sha256s"]) == (firm.id, "", [])
    assert (await firm.voice.say(firm.colleague, voice_id=voice_id)).status_code == 404

    assert (await firm.remove(firm.admin, voice_id)).status_code == 204
    assert (await firm.listed(), await firm.at_the_vendor()) == ([], [])


async def test_what_their_own_key_made_goes_with_its_user(firm: Firm) -> None:
    person = firm.voice.person()
    firm.voice.surroundings.egress.owners[person.key] = person.id
    voice_id = await firm.clone(person)
    await firm.is_deleted(person)
    assert (
        await firm.voice.database.fetch("select from cloned_voice where voice_id = $1", voice_id)
        == []
    )


@pytest.mark.parametrize("who", ["maker", "admin"])
async def test_another_key_does_not_make_it_forgotten(firm: Firm, who: str) -> None:
    voice_id, person = await firm.clone(firm.maker), getattr(firm, who)
    person.has_key(f"sk_{uuid4().hex}")
    firm.voice.surroundings.egress.owners[person.key] = person.id
    removed = (
        await firm.remove(person, voice_id)
        if who == "admin"
        else await firm.call(person, "DELETE", f"/voice/voices/{voice_id}")
    )
    assert code_of(removed) == (409, "voice_on_another_key")
    assert problem(removed)["organisation_id"] == str(firm.id)
    assert [state for *_, state in await firm.listed()] == ["removing"]
    person.has_key(firm.key)
    assert (await firm.remove(firm.admin, voice_id)).status_code == 204
    assert await firm.at_the_vendor() == []


async def test_who_leaves_is_told_how_many_stay_with_the_organisation(firm: Firm) -> None:
    for _ in range(2):
        await firm.clone(firm.maker)
    firm.maker.has_key(f"sk_{uuid4().hex}")
    firm.voice.surroundings.egress.owners[firm.maker.key] = firm.maker.id
    token = firm.maker.headers["authorization"].removeprefix("Bearer ")
    identity = identity_of(firm.voice.surroundings.identity_trust_file.parent, "auth")
    proofs = {"authorization": f"Bearer {identity.token_for('voice')}", "x-companion-user": token}
    transport = httpx.ASGITransport(firm.voice.process.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://voice") as client:
        path = f"/internal/users/{firm.maker.id}/voices"
        left = (await client.delete(path, headers=proofs)).json()
        assert (len(left["left"]), left["are_all"]) == (2, True)
        # The vendor that has lost them says so to the right key: they are gone.
        firm.maker.has_key(firm.key)
        url = f"{firm.voice.surroundings.simulator.elevenlabs}/v1/voices"
        async with httpx.AsyncClient(trust_env=False, headers={"xi-api-key": firm.key}) as vendor:
            for voice_id in left["left"]:
                await vendor.delete(f"{url}/{voice_id}")
        assert (await client.delete(path, headers=proofs)).json()["left"] == []
    assert await firm.listed() == []


async def test_while_auth_is_in_trouble_nobody_sees_or_deletes_them(firm: Firm) -> None:
    made = await firm.clone(firm.maker)
    firm.auth.is_in_trouble = True
    try:
        for answer in (await firm.voices(firm.admin), await firm.remove(firm.admin, made)):
            assert code_of(answer) == (503, "dependency_unavailable")
            assert "retry-after" in answer.headers
        assert made in await firm.at_the_vendor()
    finally:
        firm.auth.is_in_trouble = False
    assert [each[0] for each in await firm.listed()] == [made]
