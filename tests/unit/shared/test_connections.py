"""The loan of connections: never too many, never to two, and none of which nobody is sure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import pytest

from shared.db import connections
from shared.db.connections import Connection, Connections


class FakeConnection:
    """As much of asyncpg's as a loan looks at."""

    def __init__(self) -> None:
        self.closed = self.in_transaction = self.terminated = False

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.in_transaction

    def terminate(self) -> None:
        self.closed = self.terminated = True

    async def close(self, *, timeout: float) -> None:
        self.closed = True


class Server:
    """Makes connections; `trouble` is raised instead."""

    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.trouble: Exception | None = None
        self.open_gate = asyncio.Event()
        self.open_gate.set()

    async def connect(self) -> Connection:
        await asyncio.sleep(0)
        await self.open_gate.wait()
        if self.trouble is not None:
            raise self.trouble
        self.made.append(FakeConnection())
        return cast("Connection", self.made[-1])

    @property
    def open_now(self) -> int:
        return sum(not connection.closed for connection in self.made)


@pytest.fixture
def server() -> Server:
    return Server()


@asynccontextmanager
async def lending(server: Server, most: int = 2) -> AsyncIterator[Connections]:
    pool = Connections(server.connect, most=most)
    try:
        yield pool
    finally:
        await pool.close()
        assert server.open_now == 0


async def fake(pool: Connections) -> Any:
    return await pool.lend()


async def test_the_one_used_last_is_lent_again(server: Server) -> None:
    async with lending(server) as pool:
        first, second = await fake(pool), await fake(pool)
        assert first is not second
        pool.give_back(second, is_sound=True)
        pool.give_back(first, is_sound=True)
        assert await fake(pool) is first
        pool.give_back(first, is_sound=True)
    assert len(server.made) == 2


async def test_at_once_only_what_is_free_is_lent(server: Server) -> None:
    pool = Connections(server.connect, most=1)
    assert pool.lend_at_once() is None
    first = await pool.lend()
    assert pool.lend_at_once() is None
    pool.give_back(first, is_sound=True)
    assert pool.lend_at_once() is first
    assert pool.lent == 1
    assert pool.lend_at_once() is None


async def test_who_comes_late_waits_for_the_next_one(server: Server) -> None:
    async with lending(server, most=1) as pool:
        connection = await fake(pool)
        waiting = [asyncio.create_task(fake(pool)) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in waiting:
            assert not task.done()
            pool.give_back(connection, is_sound=True)
            assert await task is connection
        pool.give_back(connection, is_sound=True)
    assert len(server.made) == 1


async def test_but_not_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_WAIT_SECONDS", 0.02)
    async with lending(server, most=1) as pool:
        connection = await fake(pool)
        with pytest.raises(TimeoutError):
            await fake(pool)
        pool.give_back(connection, is_sound=True)
        assert await fake(pool) is connection
        pool.give_back(connection, is_sound=True)


@pytest.mark.parametrize("how", ["unsound", "closed", "in_transaction"])
async def test_one_that_nobody_is_sure_of_is_ended_and_replaced(server: Server, how: str) -> None:
    async with lending(server, most=1) as pool:
        connection = await fake(pool)
        waiting = asyncio.create_task(fake(pool))
        await asyncio.sleep(0)
        connection.closed, connection.in_transaction = how == "closed", how == "in_transaction"
        pool.give_back(connection, is_sound=how != "unsound")
        assert connection.terminated
        another = await waiting
        assert another is not connection
        pool.give_back(another, is_sound=True)


async def test_one_that_ended_while_idle_is_not_lent(server: Server) -> None:
    async with lending(server, most=2) as pool:
        lent = [await fake(pool) for _ in range(2)]
        for connection in lent:
            pool.give_back(connection, is_sound=True)
            connection.closed = True
        fresh = [await fake(pool) for _ in range(2)]
        assert len(server.made) == 4
        for connection in fresh:
            pool.give_back(connection, is_sound=True)


async def test_a_server_in_trouble_fails_each_and_leaves_room_for_all(server: Server) -> None:
    async with lending(server, most=2) as pool:
        server.trouble = OSError("refused")
        results = await asyncio.gather(*[fake(pool) for _ in range(6)], return_exceptions=True)
        assert [type(result) for result in results] == [OSError] * 6
        server.trouble = None
        lent = [await fake(pool) for _ in range(2)]
        for connection in lent:
            pool.give_back(connection, is_sound=True)


async def test_waiting_for_a_connection_that_never_opens_has_an_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_WAIT_SECONDS", 0.02)
    async with lending(server, most=1) as pool:
        server.open_gate.clear()
        results = await asyncio.gather(fake(pool), fake(pool), return_exceptions=True)
        assert [type(result) for result in results] == [TimeoutError] * 2
        server.open_gate.set()
        pool.give_back(await fake(pool), is_sound=True)


async def test_who_gives_up_just_when_it_is_their_turn_passes_it_on(server: Server) -> None:
    async with lending(server, most=1) as pool:
        connection = await fake(pool)
        first, second = [asyncio.create_task(fake(pool)) for _ in range(2)]
        await asyncio.sleep(0)
        pool.give_back(connection, is_sound=True)
        first.cancel()
        assert await asyncio.wait_for(second, 1) is connection
        assert first.cancelled()
        pool.give_back(connection, is_sound=True)


async def test_who_gave_up_before_is_passed_over(server: Server) -> None:
    async with lending(server, most=1) as pool:
        connection = await fake(pool)
        first, second = [asyncio.create_task(fake(pool)) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        pool.give_back(connection, is_sound=True)
        assert await asyncio.wait_for(second, 1) is connection
        pool.give_back(connection, is_sound=True)


async def test_the_room_of_one_that_failed_goes_to_who_waits(server: Server) -> None:
    async with lending(server, most=1) as pool:
        connection = await fake(pool)
        first, second = [asyncio.create_task(fake(pool)) for _ in range(2)]
        await asyncio.sleep(0)
        pool.give_back(connection, is_sound=False)
        first.cancel()
        another = await asyncio.wait_for(second, 1)
        assert another is not connection
        pool.give_back(another, is_sound=True)


async def test_idle_ones_are_ended_after_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.05)
    async with lending(server) as pool:
        first, second = await fake(pool), await fake(pool)
        pool.give_back(first, is_sound=True)
        pool.give_back(second, is_sound=True)
        for _ in range(6):
            await asyncio.sleep(0.02)
            pool.give_back(await pool.lend(), is_sound=True)
        assert (first.closed, second.closed) == (True, False)
        assert not second.terminated
        await asyncio.sleep(0.12)
        assert server.open_now == 0
        pool.give_back(await fake(pool), is_sound=True)


async def test_closing_waits_for_what_is_lent(server: Server) -> None:
    pool = Connections(server.connect, most=1)
    connection = await fake(pool)
    waiting = asyncio.create_task(fake(pool))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    with pytest.raises(asyncpg.InterfaceError):
        await waiting
    with pytest.raises(asyncpg.InterfaceError):
        await fake(pool)
    assert not closing.done()
    pool.give_back(connection, is_sound=True)
    await asyncio.wait_for(closing, 1)
    assert connection.closed
    assert not connection.terminated


async def test_closing_does_not_wait_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CLOSE_SECONDS", 0.02)
    pool = Connections(server.connect, most=1)
    connection = await fake(pool)
    await pool.close()
    assert connection.terminated


async def test_under_a_rush_with_trouble_nobody_shares_and_nothing_is_lost(server: Server) -> None:
    chance, in_hand = random.Random(7), set[Any]()

    async def use(pool: Connections) -> None:
        for _ in range(20):
            try:
                connection: Any = await pool.lend()
            except OSError:
                continue
            assert connection not in in_hand
            in_hand.add(connection)
            assert len(in_hand) <= 3
            assert server.open_now <= 3
            try:
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
                connection.closed = chance.random() < 0.1
                server.trouble = OSError("refused") if chance.random() < 0.05 else None
            finally:
                in_hand.discard(connection)
                pool.give_back(connection, is_sound=chance.random() < 0.9)

    async with lending(server, most=3) as pool:
        tasks = [asyncio.create_task(use(pool)) for _ in range(30)]
        for task in chance.sample(tasks, 8):
            await asyncio.sleep(0.001)
            task.cancel()
        await asyncio.wait(tasks, timeout=10)
        assert all(task.done() for task in tasks)
        assert [t.exception() for t in tasks if not t.cancelled() and t.exception()] == []
        server.trouble = None
        lent = [await asyncio.wait_for(pool.lend(), 1) for _ in range(3)]
        for connection in lent:
            pool.give_back(connection, is_sound=True)
