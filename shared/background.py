"""Work that goes on beside what a process is for, and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from shared.errors import ExpectedFailure, Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

_SAID_AGAIN_SECONDS = 1.0
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


async def repeated(work: Callable[[], Awaitable[None]], *, pause_seconds: float) -> None:
    """Do the work again and again, whatever became of it last time."""
    while True:
        await attempt(work)
        await asyncio.sleep(pause_seconds)


async def repeated_later(work: Callable[[], Awaitable[None]], *, pause_seconds: float) -> None:
    """`repeated` for work that was just done: the pause comes first."""
    await asyncio.sleep(pause_seconds)
    await repeated(work, pause_seconds=pause_seconds)


async def attempt(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work once; that it failed is only logged, since it will be done again."""
    name = getattr(getattr(work, "func", work), "__qualname__", type(work).__qualname__)
    try:
        await work()
    except ExpectedFailure as failure:
        log.warning("background_work_waits", work=name, reason=failure.code)
    except Exception:
        log.exception("background_work_failed", work=name)


async def until_told(ask: Callable[[], Awaitable[T]]) -> T:
    """What it answers, once it is there to answer: asked again for as long as it is Unavailable."""
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)


async def act_on_each(heard: AsyncIterator[T], act: Callable[[T], Awaitable[object]]) -> None:
    """Act on each piece of news, as long as there is any."""
    async for news in heard:
        try:
            await act(news)
        except Exception:
            # One that can't be acted on must not make us deaf to the next.
            log.exception("news_failed", by=getattr(act, "__name__", type(act).__name__))


@asynccontextmanager
async def running_beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the works beside what happens within, and end them with it. One that fails is not begun
    again, but it is told at once and not only when all ends."""
    tasks = [asyncio.create_task(work, name=getattr(work, "__qualname__", None)) for work in works]
    for task in tasks:
        task.add_done_callback(_told)
    try:
        yield
    finally:
        await _ended(tasks)


def _told(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("background_work_failed", work=task.get_name(), exc_info=error)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    # Said again until it is heard: on Python 3.11 a cancellation is lost when it comes just as the
    # call ends that `asyncio.wait_for` waits for, and a work without an end would go on for ever.
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_SAID_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)
