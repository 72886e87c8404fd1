"""Who deletes their account leaves no voice at the vendor: auth's client against the real voice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.auth.providers.cloned_voices import VoicesAtVoice
from shared.ids import UserId
from tests.support.recordings import form_of, wav
from tests.support.tokens import identity_of
from tests.support.voice_service import Person, Voice


async def a_clone(voice: Voice, person: Person, seconds: int = 12) -> str:
    made = await voice.client.post("/voice/voices", headers=person.headers, **form_of(wav(seconds)))
    assert made.status_code == 201, made.text
    return str(made.json()["voice_id"])


def token_of(person: Person) -> str:
    return person.headers["authorization"].removeprefix("Bearer ")


@asynccontextmanager
async def internal_door(voice: Voice) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(voice.process.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://voice") as client:
        yield client


def asking(voice: Voice, client: httpx.AsyncClient, **parts: Any) -> VoicesAtVoice:
    identity = identity_of(voice.surroundings.identity_trust_file.parent, "auth")
    return VoicesAtVoice(client, "http://voice/", identity, **parts)


async def states(voice: Voice, person: Person) -> list[str]:
    rows = await voice.database.fetch(
        "select state from cloned_voice where user_id = $1 order by state", person.id
    )
    return [row["state"] for row in rows]


def removed(voice: Voice, person: Person) -> list[str]:
    """What the vendor was asked to delete with this user's key."""
    return [
        call.path.rpartition("/")[2]
        for call in voice.surroundings.egress.calls
        if call.grant.user_id == person.id and call.method == "DELETE"
    ]


async def told(voice: Voice, person: Person) -> list[str]:
    rows = await voice.database.fetch(
        "select envelope->>'type' as type from outbox where envelope->>'subject' = $1"
        " order by created_at, event_id",
        str(person.id),
    )
    return [row["type"] for row in rows]


async def test_every_voice_of_the_user_goes_and_nobody_elses(voice: Voice) -> None:
    person, other = voice.person(), voice.person()
    made = [await a_clone(voice, person, 12 + n) for n in range(3)]
    await a_clone(voice, other)
    async with internal_door(voice) as client:
        left = await asking(voice, client).remove_all(
            UserId(person.id), access_token=token_of(person)
        )
    assert left == 0
    assert sorted(removed(voice, person)) == sorted(made)
    assert (await states(voice, person), await states(voice, other)) == ([], ["ready"])
    assert (await told(voice, person)).count("voice.removed") == 3


async def test_who_had_no_voice_made_asks_nobody(voice: Voice) -> None:
    person = voice.person()
    async with internal_door(voice) as client:
        asked = asking(voice, client)
        assert await asked.remove_all(UserId(person.id), access_token=token_of(person)) == 0
    assert removed(voice, person) == []


async def test_what_the_vendor_can_not_be_told_is_counted(voice: Voice) -> None:
    person = voice.person()
    for n in range(3):
        await a_clone(voice, person, 12 + n)
    voice.surroundings.egress.out_of_reach[person.id] = 2
    async with internal_door(voice) as client:
        asked = asking(voice, client)
        assert await asked.remove_all(UserId(person.id), access_token=token_of(person)) == 2
        assert await states(voice, person) == ["removing", "removing"]
        # Asked once more, it goes on where it was.
        assert await asked.remove_all(UserId(person.id), access_token=token_of(person)) == 0
    assert await states(voice, person) == []


async def test_a_key_that_is_gone_leaves_them_and_says_so(voice: Voice) -> None:
    person = voice.person()
    await a_clone(voice, person)
    del voice.surroundings.egress.keys[person.id, "elevenlabs"]
    async with internal_door(voice) as client:
        asked = asking(voice, client)
        assert await asked.remove_all(UserId(person.id), access_token=token_of(person)) == 1


@pytest.mark.parametrize("whose", ["another user's token", "a token for something else", "none"])
async def test_without_the_users_own_proof_nothing_is_removed(voice: Voice, whose: str) -> None:
    person = voice.person()
    await a_clone(voice, person)
    token = {
        "another user's token": token_of(voice.person()),
        "a token for something else": voice.surroundings.mint.headers(person.id, scope="keys")[
            "authorization"
        ].removeprefix("Bearer "),
    }.get(whose, "x")
    async with internal_door(voice) as client:
        left = await asking(voice, client).remove_all(UserId(person.id), access_token=token)
    assert left is None
    assert (await states(voice, person), removed(voice, person)) == (["ready"], [])


@pytest.mark.parametrize("caller", ["chat", "billing"])
async def test_only_auth_may_ask(voice: Voice, caller: str) -> None:
    person = voice.person()
    await a_clone(voice, person)
    identity = identity_of(voice.surroundings.identity_trust_file.parent, caller)
    headers = {
        "authorization": f"Bearer {identity.token_for('voice')}",
        "x-companion-user": token_of(person),
    }
    path = f"/internal/users/{person.id}/voices"
    async with internal_door(voice) as client:
        refused = await client.delete(path, headers=headers)
        without = await client.delete(path, headers={"x-companion-user": token_of(person)})
    assert (refused.status_code, without.status_code) == (403, 401)
    assert await states(voice, person) == ["ready"]
    assert (await voice.client.delete(path, headers=headers)).status_code == 404


async def test_a_voice_that_is_away_or_silent_holds_nobody_up(voice: Voice) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)
        writer.close()

    identity = identity_of(voice.surroundings.identity_trust_file.parent, "auth")
    person = UserId(voice.person().id)
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in ("http://127.0.0.1:9", f"http://127.0.0.1:{port}", None):
            asked = VoicesAtVoice(client, url, identity, patience_seconds=0.2)
            assert await asked.remove_all(person, access_token="x") is None
    server.close()
