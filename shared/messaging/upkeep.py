"""Keeping the event tables small: what was sent and handled long ago is forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from shared.db import archive
from shared.db.database import Database
from shared.events.usage import UsageManifest, UsageRecorded
from shared.messaging.dead_events import forget_replayed
from shared.messaging.subscriptions import Listen

# Usage must be there for as long as a consumer may still ask for it; a manifest says nothing once
# the next one is sent.
KEEP_USAGE = timedelta(days=90)
KEEP_MANIFESTS = timedelta(days=1)
KEEP_OTHERS = timedelta(days=35)
# Far longer than a broker can hold back a message.
KEEP_HANDLED = timedelta(days=35)
# Put aside once, and sent again or closed since; one that waits for that stays.
KEEP_REPLAYED = timedelta(days=35)
_HOURS_ARE_TOLD = timedelta(hours=3)
_AT_ONCE = 5_000


def install_upkeep(listen: Listen) -> None:
    """Make the service forget old events, once an hour."""

    @listen.every(timedelta(hours=1), given="database")
    async def forget_old_events(database: Database) -> None:
        await forget(database)


async def forget(database: Database) -> None:
    """Forget what is past its time, in pieces, so that no lock is held for long.

    What stands in the way of one stream holds up no other, and is raised in the end.
    """
    failures: list[Exception] = []
    for forget_some in await _all_steps(database):
        try:
            await _until_done(forget_some)
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]


async def _all_steps(database: Database) -> list[Callable[[], Awaitable[int]]]:
    return [
        partial(archive.forget_handled, database, KEEP_HANDLED, most=_AT_ONCE),
        partial(forget_replayed, database, KEEP_REPLAYED, most=_AT_ONCE),
        *(
            partial(_forget_sent, database, stream)
            for stream in await archive.sent_streams(database)
        ),
    ]


async def _forget_sent(database: Database, stream: str) -> int:
    keep = await _kept_for(stream, database)
    return await archive.forget_sent(database, stream, keep, most=_AT_ONCE)


async def _kept_for(stream: str, database: Database) -> timedelta:
    if stream.startswith(f"{UsageRecorded.type}."):
        return KEEP_USAGE
    if stream.startswith(f"{UsageManifest.type}."):
        # After a long standstill they say from which hour on nothing was told yet.
        told = await archive.told_lately(database, stream, _HOURS_ARE_TOLD)
        return KEEP_MANIFESTS if told else KEEP_OTHERS
    return KEEP_OTHERS


async def _until_done(forget_some: Callable[[], Awaitable[int]]) -> None:
    while await forget_some() == _AT_ONCE:
        pass
