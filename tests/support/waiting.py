"""Waiting for what happens by itself, for as long as a busy machine may need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(happened: Callable[[], object], *, seconds: float = 10) -> None:
    """Return once it has."""
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.002)


async def eventually(
    look: Callable[[], Awaitable[T]], true: Callable[[T], object], seconds: float = 10
) -> T:
    """What a look finds, once it is true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        seen = await look()
        if true(seen):
            return seen
        assert asyncio.get_running_loop().time() < deadline, f"never came true: {seen}"
        await asyncio.sleep(0.02)
