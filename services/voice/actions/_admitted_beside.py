"""A place in the limits, taken while something else is looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from services.voice.domain.ports import Reservation

T = TypeVar("T")


async def admitted_beside(
    looking: Awaitable[T], admitting: Coroutine[Any, Any, Reservation]
) -> tuple[T, Reservation]:
    """What was found, and the place. Raises what either raises, what the look does first; then no
    place is kept."""
    taking = asyncio.ensure_future(admitting)
    try:
        return await looking, await taking
    except BaseException:
        await asyncio.shield(_given_back(taking))
        raise


async def _given_back(taking: asyncio.Future[Reservation]) -> None:
    try:
        place = await taking
    except (Exception, asyncio.CancelledError):
        return  # there is none, or whoever was asked for it gives it back
    await place.refund()
