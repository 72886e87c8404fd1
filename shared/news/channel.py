"""Listening to a channel of Valkey, for as long as there is somebody who wants to hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.valkey import FAILURES

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 1.0
_SILENCE_SECONDS = 5.0


async def heard_on(listener: Redis, channel: str, *, news: str) -> AsyncGenerator[Any, None]:
    """What is published there from now on, and None after five seconds of silence; goes on by
    itself once a lost Valkey is back. `news` is what the log calls it.

    Anybody who reaches this Valkey may write to the channel: whoever hears it reads with care.
    Close it (`aclosing`), since a subscription outlives a loop that was left.
    """
    while True:
        try:
            async with listener.pubsub() as subscription:
                await subscription.subscribe(channel)
                while True:
                    message = await subscription.get_message(
                        ignore_subscribe_messages=True, timeout=_SILENCE_SECONDS
                    )
                    yield None if message is None else message["data"]
        except FAILURES as error:
            log.warning(f"{news}_unheard", reason=type(error).__name__)
        await asyncio.sleep(_WAIT_SECONDS)
