"""One connection for all callers: each hears their own answer, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from shared.limits.line import Line, packed
from shared.valkey import open_cache

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_SOON = 0.15


@pytest.fixture
async def cache(valkey_url: str) -> AsyncIterator[Redis]:
    async with open_cache(valkey_url) as cache:
        yield cache


@asynccontextmanager
async def line_to(serve: Serve) -> AsyncIterator[Line]:
    """A line to something that is no Valkey."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_cache(f"redis://127.0.0.1:{port}/0") as cache:
        yield Line(cache.connection_pool, timeout=_SOON)


def echo(text: str) -> bytes:
    return packed("ECHO", text)


async def said(reader: asyncio.StreamReader) -> bytes:
    """What the next ECHO wants to hear."""
    for _ in range(4):
        await reader.readline()
    return (await reader.readline()).strip()


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


async def test_each_hears_their_own_also_beside_those_who_left(cache: Redis) -> None:
    line = Line(cache.connection_pool, timeout=1)
    calls = [asyncio.ensure_future(line.ask(echo(str(n)))) for n in range(300)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for number, answer in enumerate(answers):
        if number % 3:
            assert answer == str(number).encode()
        else:
            assert isinstance(answer, asyncio.CancelledError)
    assert await line.ask(echo("after")) == b"after"
    assert len(cache.connection_pool._in_use_connections) == 1


async def test_who_left_does_not_break_the_connection_of_the_others(cache: Redis) -> None:
    line = Line(cache.connection_pool, timeout=1)
    number = await line.ask(packed("CLIENT", "ID"))
    leaving = asyncio.ensure_future(line.ask(echo("a")))
    staying = asyncio.ensure_future(line.ask(echo("b")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == b"b"
    assert await line.ask(packed("CLIENT", "ID")) == number


async def test_silence_is_noticed_however_much_is_asked() -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with line_to(serve) as line:
        first = asyncio.ensure_future(line.ask(echo("first")))
        more: list[asyncio.Future[bytes]] = []
        async with asyncio.timeout(5):
            while not first.done():
                more.append(asyncio.ensure_future(line.ask(echo("more"))))
                await asyncio.sleep(_SOON / 10)
        with pytest.raises(RedisTimeout):
            await first
        for one in more:
            one.cancel()
        await asyncio.gather(*more, return_exceptions=True)


async def test_who_answers_slowly_but_steadily_is_waited_for() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while not reader.at_eof():
            text = await said(reader)
            await asyncio.sleep(_SOON / 2)
            writer.write(bulk(text))

    async with line_to(serve) as line:
        answers = await asyncio.gather(*(line.ask(echo(str(n))) for n in range(5)))
        assert (answers, connections) == ([b"0", b"1", b"2", b"3", b"4"], 1)


class LatePool:
    """A pool whose connections are not opened in time."""

    def __init__(self, seconds: float, *, is_our_fault: bool) -> None:
        self.asked = 0
        self._seconds = seconds
        self._is_our_fault = is_our_fault

    async def get_connection(self) -> None:
        self.asked += 1
        if self._is_our_fault:
            time.sleep(self._seconds)  # a loop that is busy
        else:
            await asyncio.sleep(self._seconds)
        raise RedisTimeout("not opened")


@pytest.mark.parametrize(("is_our_fault", "asked"), [(False, 1), (True, 2)])
async def test_opening_is_tried_once_more_only_where_our_own_loop_was_busy(
    is_our_fault: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.limits.line._LATE_SECONDS", 0.02 if is_our_fault else 60)
    pool: Any = LatePool(0.1, is_our_fault=is_our_fault)
    with pytest.raises(RedisTimeout):
        await Line(pool, timeout=0.05).ask(echo("x"))
    assert pool.asked == asked


async def test_a_refusal_is_its_callers_alone(cache: Redis) -> None:
    line = Line(cache.connection_pool, timeout=1)
    unknown = packed("EVALSHA", "0" * 40, 0)
    answers = await asyncio.gather(
        line.ask(echo("a")),
        line.ask(unknown),
        line.ask(packed("NO-SUCH-COMMAND")),
        line.ask(echo("b")),
        return_exceptions=True,
    )
    assert (answers[0], answers[3]) == (b"a", b"b")
    assert isinstance(answers[1], NoScriptError)
    assert type(answers[2]) is ResponseError


async def test_a_large_answer_comes_whole(cache: Redis) -> None:
    line = Line(cache.connection_pool, timeout=2)
    large = "x" * (5 << 20)
    first, second = await asyncio.gather(line.ask(echo(large)), line.ask(echo("small")))
    assert (len(first), second) == (len(large), b"small")


async def test_a_connection_that_was_killed_is_replaced(cache: Redis) -> None:
    line = Line(cache.connection_pool, timeout=1)
    for _ in range(3):
        number = await line.ask(packed("CLIENT", "ID"))
        await cache.client_kill_filter(_id=str(number))
        # Also at once: the end of it may not have been heard of yet.
        assert await line.ask(echo("again")) == b"again"
    await asyncio.sleep(0.02)
    assert len(cache.connection_pool._in_use_connections) == 1


async def test_answers_are_put_together_however_they_are_cut() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = b"".join([bulk(await said(reader)) for _ in range(3)])
        for at in range(len(answers)):
            writer.write(answers[at : at + 1])
            await asyncio.sleep(0.001)
        writer.write(bulk(await said(reader)) + bulk(await said(reader)))
        await reader.read()

    async with line_to(serve) as line:
        answers = await asyncio.gather(*(line.ask(echo(text)) for text in "abc"))
        assert answers == [b"a", b"b", b"c"]
        assert await asyncio.gather(*(line.ask(echo(text)) for text in "de")) == [b"d", b"e"]


async def test_what_comes_too_late_reaches_nobody() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            late = await said(reader)
            await asyncio.sleep(_SOON * 1.5)
            writer.write(bulk(b"late: " + late))
        while not reader.at_eof():
            writer.write(bulk(await said(reader)))

    async with line_to(serve) as line:
        with pytest.raises(RedisTimeout):
            await line.ask(echo("first"))
        answers = [await line.ask(echo(str(n))) for n in range(5)]
        await asyncio.sleep(_SOON)
        assert answers == [b"0", b"1", b"2", b"3", b"4"]
        assert await line.ask(echo("last")) == b"last"
        assert connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"$%d\r\n%b\r\n$3\r\nodd\r\n",
        b"%d%b no reply at all\r\n",
        b"-LOADING Valkey is loading the dataset in memory %d%b\r\n",
        b"$5%d\r\n%b half",
        b"",
    ],
    ids=["one too many", "nonsense", "loading", "half", "nothing"],
)
async def test_after_an_answer_that_makes_no_sense_another_connection_is_used(
    answer: bytes,
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while not reader.at_eof():
            text = await said(reader)
            if connections <= 2:
                writer.write(answer and answer % (len(text), text))
                return
            writer.write(bulk(text))

    async with line_to(serve) as line:
        for number in range(5):
            try:
                assert await line.ask(echo(str(number))) == str(number).encode()
            except RedisConnectionError:
                assert number < 2
            await asyncio.sleep(0.01)
        assert connections == 3


async def test_nonsense_is_noticed_at_once_though_the_connection_stays_open() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        text = await said(reader)
        writer.write(bulk(text) if connections > 1 else b"no reply at all\r\n")
        await reader.read()

    async with line_to(serve) as line:
        assert await line.ask(echo("x")) == b"x"
        assert connections == 2


async def test_all_who_wait_hear_of_the_end_of_a_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said(reader)

    async with line_to(serve) as line:
        calls = [line.ask(echo(str(n))) for n in range(20)]
        async with asyncio.timeout(2):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {RedisConnectionError}


async def test_closing_the_cache_ends_it_at_once(valkey_url: str) -> None:
    async with asyncio.timeout(10), open_cache(valkey_url) as cache:
        # Whoever does not hear of the end is waited for so long.
        cache.connection_pool.connection_kwargs["socket_connect_timeout"] = 60
        line = Line(cache.connection_pool, timeout=1)
        assert await line.ask(echo("x")) == b"x"
