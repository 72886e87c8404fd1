"""What everybody knows of ended sessions: heard within a second, never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from shared.errors import DependencyUnavailable, SessionEnded
from shared.news import channel, ended_sessions
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


async def test_what_is_good_again_passes_at_once(sessions: EndedSessions) -> None:
    back, out = uuid4(), uuid4()
    await sessions.repeat([back, out])
    await sessions.take_back([back])
    await sessions.take_back([])
    await sessions.check(back)
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
        await sessions.take_back([uuid4()])
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


async def test_many_are_looked_up_a_few_at_a_time(
    url: str, sessions: EndedSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_sessions, "_LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(ended_sessions, "_MOST_AT_ONCE", 10)
    monkeypatch.setattr(channel, "_SILENCE_SECONDS", 0.05)
    running = [uuid4() for _ in range(35)]
    ended = [running[0], running[10], running[34]]
    async with open_cache(url) as cache:
        await EndedSessions(cache).repeat(ended)
    heard = sessions.heard(lambda: running)
    async with asyncio.timeout(5):
        assert [await anext(heard) for _ in ended] == ended
    await heard.aclose()  # type: ignore[attr-defined]


async def test_a_valkey_that_is_gone_without_a_word_is_noticed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host has died: nobody closes the connection, and nobody answers on it."""
    monkeypatch.setattr(channel, "_SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(channel, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(channel, "_WAIT_SECONDS", 0.05)
    there = urlsplit(url)
    answers: list[bool] = []  # of each connection, in the order of their making
    passing: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(answers)
        answers.append(True)
        from_valkey, to_valkey = await asyncio.open_connection(there.hostname, there.port)

        async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(4096):
                if answers[number]:
                    sink.write(data)

        passing.append((asyncio.create_task(one_way(reader, to_valkey)), to_valkey))
        passing.append((asyncio.create_task(one_way(from_valkey, writer)), writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    between = url.replace(f":{there.port}", f":{server.sockets[0].getsockname()[1]}")
    async with Redis.from_url(between, health_check_interval=0.2) as listener:
        heard = channel.heard_on(listener, "news", news="news")
        for _ in range(20):  # a second of silence in which it is asked, and answers
            assert await anext(heard) is None
        assert answers == [True]
        answers[0] = False
        async with asyncio.timeout(5), open_cache(url) as cache:
            while await anext(heard) is None:
                await cache.publish("news", "x")
        assert len(answers) > 1
        await heard.aclose()
    server.close()
    for task, writer in passing:
        task.cancel()
        writer.close()
    await asyncio.gather(*(task for task, _ in passing), return_exceptions=True)
    await asyncio.gather(*(writer.wait_closed() for _, writer in passing), return_exceptions=True)
