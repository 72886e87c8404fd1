"""One moment of all databases: a cut through which no effect has come without its cause.

Each database is read in a snapshot of its own, taken milliseconds after one another, listeners
before those they listen to. What was under way between two of them is no loss: an event that its
listener has not handled yet is still in its producer's outbox or archive, and is sent again after a
restore; what it had handled before, its inbox knows. The one thing that must not be is the
opposite, an event handled whose producer does not know of it. That is looked for, and another cut
taken when it is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import datetime, timedelta

from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from deploy.companion.databases import connect
from deploy.companion.errors import CompanionError
from shared.values import dataclass

# Almost everything is told to billing, and auth tells everybody.
ORDER = ("billing", "voice", "chat", "keyvault", "auth")
_TRIES = 5
# How far the clocks of several servers may be apart.
_CLOCKS = timedelta(seconds=5)
# Handled since then means sent since then, and a little before.
_UNDER_WAY = timedelta(minutes=10)

_HANDLED = "select event_id from inbox where handled_at >= %s"
_ENTERED = """
select event_id from ledger_entry where received_at >= %s and producer in ('chat', 'voice')
"""
_KNOWN = """
select event_id from outbox union all select event_id from outbox_sent where sent_at >= %s
"""
_REPEATED = "select event_id from outbox_sent where event_id = any(%s::uuid[])"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A database as it was at one moment, for as long as its transaction is open."""

    connection: Connection = field(repr=False)
    name: str
    at: datetime


@contextlib.contextmanager
def consistent_cut(databases: Mapping[str, str]) -> Iterator[Mapping[str, Snapshot]]:
    """Snapshots of all databases. Raises CompanionError when no cut is consistent."""
    for _ in range(_TRIES):
        with contextlib.ExitStack() as stack:
            snapshots = {name: _snapshot(databases[name], stack) for name in ORDER}
            if not effects_without_cause(snapshots):
                yield snapshots
                return
    raise CompanionError(
        "The databases could not be read at one moment: events were handled faster than they could "
        "be looked at.",
        "Try again.",
    )


def effects_without_cause(snapshots: Mapping[str, Snapshot]) -> int:
    """How many events were handled, just now, of which no producer's snapshot knows."""
    since = min(snapshot.at for snapshot in snapshots.values()) - _CLOCKS
    handled: set[str] = set()
    for service, snapshot in snapshots.items():
        handled |= _ids(snapshot, _HANDLED, since)
        if service == "billing":
            handled |= _ids(snapshot, _ENTERED, since)
    if not handled:
        return 0
    for snapshot in snapshots.values():
        handled -= _ids(snapshot, _KNOWN, since - _UNDER_WAY)
    for snapshot in snapshots.values() if handled else ():
        # One that was sent long ago, and handled late.
        handled -= _ids(snapshot, _REPEATED, list(handled))
    return len(handled)


def _ids(snapshot: Snapshot, sql: str, value: object) -> set[str]:
    with snapshot.connection.cursor() as cursor:
        cursor.execute(sql, (value,))
        return {str(id_) for (id_,) in cursor.fetchall()}


def _snapshot(url: str, stack: contextlib.ExitStack) -> Snapshot:
    connection = connect(url)
    stack.callback(connection.close)
    connection.autocommit = False
    connection.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
    with connection.cursor() as cursor:
        cursor.execute("select pg_export_snapshot(), clock_timestamp()")
        ((name, at),) = cursor.fetchall()
    return Snapshot(connection, name, at)
