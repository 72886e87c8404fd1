"""Keeping the event tables small: what was sent and handled long ago is forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from shared.db import archive
from shared.db.database import Database
from shared.events.usage import UsageManifest, UsageRecorded
from shared.messaging.subscriptions import Listen

# Usage must be there for as long as a consumer may still ask for it; a manifest says nothing once
# the next one is sent.
KEEP_USAGE = timedelta(days=90)
KEEP_MANIFESTS = timedelta(days=1)
KEEP_OTHERS = timedelta(days=35)
# Far longer than a broker can hold back a message.
KEEP_HANDLED = timedelta(days=35)
_AT_ONCE = 5_000


def install_upkeep(listen: Listen) -> None:
    """Make the service forget old events, once an hour."""

    @listen.every(timedelta(hours=1), given="database")
    async def forget_old_events(database: Database) -> None:
        await forget(database)


async def forget(database: Database) -> None:
    """Forget what is past its time, in pieces, so that no lock is held for long."""
    usage, manifests = f"{UsageRecorded.type}.", f"{UsageManifest.type}."

    async def sent(prefixes: list[str], keep: timedelta, *, of_these: bool = True) -> None:
        await _until_done(
            lambda: archive.forget_sent(database, prefixes, keep, of_these=of_these, most=_AT_ONCE)
        )

    await sent([usage], KEEP_USAGE)
    await sent([manifests], KEEP_MANIFESTS)
    await sent([usage, manifests], KEEP_OTHERS, of_these=False)
    await _until_done(lambda: archive.forget_handled(database, KEEP_HANDLED, most=_AT_ONCE))


async def _until_done(forget_some: Callable[[], Awaitable[int]]) -> None:
    while await forget_some() == _AT_ONCE:
        pass
