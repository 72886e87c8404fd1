"""How a relay at rest hears that something waits: `Database.wake_relay` rings, this listens."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Any

import psycopg2
import structlog

from shared.db.database import BELL, plain_dsn
from shared.db.engine import KEEP_ALIVE

log = structlog.get_logger(__name__)

# Who can't hear looks as often as who is awake.
_DEAF_SECONDS = 0.25


class RelayBell:
    """Listens to one service's database, on a connection of its own.

    A ring may be lost: with its connection, or with the process that would have rung. So whoever
    waits for it also looks now and then.
    """

    def __init__(self, database_url: str) -> None:
        self._dsn = plain_dsn(database_url)
        self._connection: Any = None
        self._ends, self._end = os.pipe()

    def rang_within(self, seconds: float) -> bool:
        """Wait for a ring, for so long at most; True also where one may have been missed."""
        try:
            if self._connection is None:
                self._connection = self._listening()
                return True
            return self._heard(seconds)
        except (psycopg2.Error, OSError, ValueError) as error:
            log.warning("bell_unheard", reason=type(error).__name__)
            self._drop()
            select.select([self._ends], [], [], min(seconds, _DEAF_SECONDS))
            return True

    def end(self) -> None:
        """Let whoever waits go on, now and ever after; safe in a signal's handler."""
        os.write(self._end, b".")

    def close(self) -> None:
        """Give back what it holds."""
        self._drop()
        os.close(self._ends)
        os.close(self._end)

    def _listening(self) -> Any:
        connection = psycopg2.connect(self._dsn, connect_timeout=3, **KEEP_ALIVE)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"listen {BELL}")
        return connection

    def _heard(self, seconds: float) -> bool:
        select.select([self._connection, self._ends], [], [], seconds)
        self._connection.poll()
        rang = bool(self._connection.notifies)
        self._connection.notifies.clear()
        return rang

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()
