"""A long list read page by page, so that no transaction waits for a slow reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")
K = TypeVar("K")


async def page_by_page(
    read: Callable[[K | None], Awaitable[Sequence[T]]],
    most: int,
    place: Callable[[Any], K] = attrgetter("id"),
) -> AsyncIterator[Sequence[T]]:
    """Pages of `most` until one is not full. `read` gets one, from after the `place` of what was
    last on the page before."""
    last = None
    while True:
        page = await read(last)
        yield page
        if len(page) < most:
            return
        last = place(page[-1])
