"""Listening to a channel of Valkey, for as long as there is somebody who wants to hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from shared.valkey import FAILURES

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 1.0
_SILENCE_SECONDS = 5.0
# How long the PING that the client sends in a silence may wait for its answer.
_ANSWER_SECONDS = 10.0


async def heard_on(listener: Redis, channel: str, *, news: str) -> AsyncGenerator[Any, None]:
    """What is published there from now on, and None after five seconds of silence and while it
    can't be heard; goes on by itself once a lost Valkey is back, also one that went without a word.
    `news` is what the log calls it.

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
                    if message is None and is_unanswered(subscription):
                        raise TimeoutError
                    yield None if message is None else message["data"]
        except FAILURES as error:
            log.warning(f"{news}_unheard", reason=type(error).__name__)
            yield None
        await asyncio.sleep(_WAIT_SECONDS)


def is_unanswered(subscription: PubSub) -> bool:
    """Whether nothing has come for so long, not even the answer to a PING, that Valkey's host must
    be gone: that closes nothing, and the kernel would go on trying for a quarter of an hour."""
    connection: Any = subscription.connection
    if connection is None or not connection.health_check_interval:
        return False
    # It is put off by whatever is read.
    due = float(connection.next_health_check)
    return asyncio.get_running_loop().time() > due + _ANSWER_SECONDS
