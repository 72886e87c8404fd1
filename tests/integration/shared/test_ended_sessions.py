"""What everybody knows of ended sessions: heard within a second, never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest

from shared.errors import DependencyUnavailable, SessionEnded
from shared.news import ended_sessions
from shared.news.ended_sessions import EndedSessions
from shared.valkey import open_cache, open_listener
from tests.support.engines import ValkeyServer
from tests.support.suite import eventually


@pytest.fixture
def url(valkey_server: ValkeyServer) -> Iterator[str]:
    with valkey_server.fresh_database() as url:
        yield url


@pytest.fixture
async def sessions(url: str) -> AsyncIterator[EndedSessions]:
    async with open_cache(url) as cache, open_listener(url) as listener:
        yield EndedSessions(cache, listener)


async def test_an_empty_valkey_is_no_proof(sessions: EndedSessions) -> None:
    with pytest.raises(DependencyUnavailable):
        await sessions.check(uuid4())
    # Told of one alone, it still does not know of the others.
    out = uuid4()
    await sessions.tell([out])
    with pytest.raises(SessionEnded):
        await sessions.check(out)
    with pytest.raises(DependencyUnavailable):
        await sessions.check(uuid4())
    await sessions.repeat([])
    await sessions.check(uuid4())
    with pytest.raises(SessionEnded):
        await sessions.check(out)


async def test_it_is_remembered_for_longer_than_an_access_token_lives(url: str) -> None:
    out = uuid4()
    async with open_cache(url) as cache:
        await EndedSessions(cache).repeat([out])
        assert 15 * 60 < await cache.ttl(f"companion:ended_session:{out}") <= 16 * 60


async def test_without_valkey_nothing_is_known() -> None:
    async with open_cache("redis://127.0.0.1:1/0") as nowhere:
        sessions = EndedSessions(nowhere)
        await sessions.tell([uuid4()])
        for attempt in (sessions.check(uuid4()), sessions.repeat([])):
            with pytest.raises(DependencyUnavailable):
                await attempt


async def test_who_listens_hears_at_once(url: str, sessions: EndedSessions) -> None:
    heard: list[UUID] = []

    async def listen() -> None:
        async for id_ in sessions.heard(lambda: []):
            heard.append(id_)  # noqa: PERF401 - one by one, while it runs

    listening = asyncio.create_task(listen())
    out = uuid4()
    async with open_cache(url) as cache:

        async def tell() -> list[UUID]:
            await cache.publish("companion.ended_sessions", b"\xff nonsense")
            await EndedSessions(cache).tell([out])
            return heard

        await eventually(tell, lambda ids: out in ids, seconds=5)
    assert set(heard) == {out}
    listening.cancel()


async def test_what_was_missed_is_looked_up_by_the_clock(
    url: str, sessions: EndedSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_sessions, "_LOOK_AGAIN_SECONDS", 0.0)
    out, running = uuid4(), uuid4()
    async with open_cache(url) as cache:
        await EndedSessions(cache).repeat([out])
        hearing = sessions.heard(lambda: [running, out])
        waiting = asyncio.ensure_future(anext(hearing))
        # Any message wakes the listener before its time.
        while not waiting.done():
            await cache.publish("companion.ended_sessions", b"wake up")
            await asyncio.sleep(0.01)
        assert waiting.result() == out
