"""Waiting for what happens by itself, for as long as a busy machine may need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.db.database import Database

_LOCKED_OUT = """
select count(*) as waiting from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""

T = TypeVar("T")


async def until(happened: Callable[[], object], *, seconds: float = 30) -> None:
    """Return once it has."""
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.002)


async def eventually(
    look: Callable[[], Awaitable[T]], true: Callable[[T], object], seconds: float = 30
) -> T:
    """What a look finds, once it is true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        seen = await look()
        if true(seen):
            return seen
        assert asyncio.get_running_loop().time() < deadline, f"never came true: {seen}"
        await asyncio.sleep(0.02)


async def until_locked_out(
    database: Database, most: int = 1, *, unless: Callable[[], object] = lambda: False
) -> None:
    """So many statements on this database wait for what somebody else holds; or what would, needs
    not."""

    async def waiting() -> int:
        row = await database.fetchrow(_LOCKED_OUT)
        assert row is not None
        return int(row["waiting"])

    await eventually(waiting, lambda seen: seen >= most or unless(), seconds=20)


async def stood_still(look: Callable[[], int], *, seconds: float = 1) -> int:
    """What is seen once it has not changed for so long. What never stands still ends where it is
    whole."""
    async with asyncio.timeout(60):
        while True:
            seen = look()
            await asyncio.sleep(seconds)
            if look() == seen:
                return seen
