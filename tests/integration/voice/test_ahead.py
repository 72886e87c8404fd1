"""While a hold is written the vendor's call waits without its body: on a real database, whose table
of speeches is locked for so long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.support.voice_service import Person, Voice
from tests.support.waiting import until, until_locked_out


@asynccontextmanager
async def held_up(voice: Voice) -> AsyncIterator[None]:
    """Holds are waited for inside the block, as everything that would write one."""
    async with voice.database.connection() as connection, connection.transaction():
        await connection.execute("lock table speech in share mode")
        yield


def asked(voice: Voice, person: Person) -> int:
    """How many speeches of theirs were let through to the vendor."""
    return sum(
        call.grant.user_id == person.id and call.method == "POST"
        for call in voice.surroundings.egress.calls
    )


async def warmed(voice: Voice) -> Person:
    """Who has heard something, so that a connection to the egress is free and the voice known."""
    person = voice.person()
    assert (await voice.say(person, "hello")).status_code == 200
    await voice.until_settled(person)
    return person


async def test_the_key_is_asked_for_while_the_hold_is_written_and_nothing_is_said(
    voice: Voice,
) -> None:
    person = await warmed(voice)
    async with held_up(voice):
        answer = asyncio.create_task(voice.say(person, "what is a tooltip?"))
        await until(lambda: asked(voice, person) == 2)
        await asyncio.sleep(0.1)
        assert len(person.served()) == 1
    assert (await answer).status_code == 200
    await voice.until_settled(person)
    assert asked(voice, person) == len(person.served()) == 2
    assert len(await voice.usage(person)) == 2


async def test_a_hearer_who_goes_before_the_hold_stands_leaves_a_record_of_what_was_said(
    voice: Voice,
) -> None:
    person = await warmed(voice)
    async with held_up(voice):
        asking = asyncio.create_task(voice.say(person, "gone"))
        await until(lambda: asked(voice, person) == 2)
        asking.cancel()
        with pytest.raises((asyncio.CancelledError, httpx.HTTPError)):
            await asking
        await asyncio.sleep(0.2)
        assert len(person.served()) == 1
    await voice.until(
        lambda rows: len(rows) == 2 and all(row["state"] == "settled" for row in rows), person
    )
    assert asked(voice, person) == len(person.served()) == len(await voice.usage(person)) == 2


async def test_keyvaults_no_leaves_nothing_behind(voice: Voice) -> None:
    person = await warmed(voice)
    del voice.surroundings.egress.keys[person.id, "elevenlabs"]
    async with held_up(voice):
        answer = asyncio.create_task(voice.say(person, "without a key"))
        await until_locked_out(voice.database)
    assert (await answer).json()["code"] == "no_usable_key"
    await voice.until_settled(person)
    assert [row["outcome"] for row in await voice.speeches(person)] == ["done", "refused"]
    assert len(await voice.usage(person)) == 1
