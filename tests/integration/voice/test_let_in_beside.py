"""The place in the limits is taken while a speech is looked for: on a real database, whose table of
own settings is locked for so long, and a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.limits.windows import minute_window
from tests.support.kept_speech import write_kept_speech_keys
from tests.support.voice_service import Person, Surroundings, Voice, running_voice
from tests.support.waiting import eventually


@asynccontextmanager
async def looks_held_up(voice: Voice) -> AsyncIterator[None]:
    """Looks are waited for inside the block."""
    async with voice.database.connection() as connection, connection.transaction():
        await connection.execute("lock table voice_settings in access exclusive mode")
        yield


@pytest_asyncio.fixture
async def cache(surroundings: Surroundings) -> AsyncIterator[Redis]:
    async with Redis.from_url(surroundings.cache_url) as opened:
        yield opened


async def asked_this_minute(cache: Redis, person: Person) -> int:
    """Requests of theirs in the minutes around now."""
    now = minute_window("elevenlabs.requests_per_minute", 1, datetime.now(UTC))
    every = now.key(str(person.id)).rpartition(":")[0] + ":*"
    return sum([int(await cache.get(key) or 0) async for key in cache.scan_iter(every)])


@pytest_asyncio.fixture(scope="module")
async def keeping(
    surroundings: Surroundings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Voice]:
    """A voice process that keeps what is said."""
    keys = write_kept_speech_keys(tmp_path_factory.mktemp("keys") / "keys.json")
    async with running_voice(surroundings, cache_keys_file=keys) as voice:
        yield voice


@pytest.mark.parametrize(
    ("tier", "wishes"), [("enterprise", {}), ("pro", {"cache": False})], ids=["all", "not kept"]
)
async def test_it_is_let_in_while_it_is_looked_for(
    keeping: Voice, cache: Redis, tier: str, wishes: dict[str, Any]
) -> None:
    person = keeping.person(tier)
    async with looks_held_up(keeping):
        answer = asyncio.create_task(keeping.say(person, "what is a tooltip?", **wishes))
        await eventually(lambda: asked_this_minute(cache, person), lambda asked: asked == 1)
        assert await keeping.speeches(person) == []
        assert not answer.done()
    assert (await answer).status_code == 200
    await keeping.until_settled(person)
    assert await asked_this_minute(cache, person) == len(person.served()) == 1


async def test_whose_characters_are_counted_is_looked_for_first(
    keeping: Voice, cache: Redis
) -> None:
    person = keeping.person("pro")
    async with looks_held_up(keeping):
        answer = asyncio.create_task(keeping.say(person, "what is a tooltip?"))
        await asyncio.sleep(0.3)
        assert await asked_this_minute(cache, person) == 0
    assert (await answer).status_code == 200
    await keeping.until_settled(person)
    assert await asked_this_minute(cache, person) == 1
