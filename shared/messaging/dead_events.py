"""Events that could not be handled: kept with the reason, shown to operators, sent in again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import structlog

from shared.db.database import Database, UnstorableText
from shared.telemetry.metrics import EVENTS_DEAD
from shared.values import dataclass

log = structlog.get_logger(__name__)

PROCESS_LOST = "process_lost"
"""The reason of a batch that has ended its process too often: the body is all of it, as it came."""

_CLOSED_BY = "; closed by "

# A message may lack its body altogether.
_STORE = """
insert into dead_event (task, reason, body) values ($1, $2, coalesce($3, 'null'::jsonb))
"""
_LIST = """
select id, task, reason, body, stored_at, replayed_at from dead_event
where replayed_at is null or $2 order by id desc limit $1
"""
_GET = "select id, task, reason, body, stored_at, replayed_at from dead_event where id = $1"
_REPLAYED = "update dead_event set replayed_at = now() where id = $1"
_CLOSE = """
update dead_event set replayed_at = now(), reason = reason || $2
where id = $1 and replayed_at is null
returning id
"""
_FORGET_REPLAYED = """
delete from dead_event where id in (
    select id from dead_event where replayed_at < now() - $1::interval order by id limit $2
)
"""


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """One that was put aside."""

    id: int
    task: str
    reason: str
    body: Any
    stored_at: datetime
    replayed_at: datetime | None

    @property
    def is_closed(self) -> bool:
        """Whether somebody said that it is waited for no more; nobody sent it again."""
        return self.replayed_at is not None and _CLOSED_BY in self.reason


class DeadEvents:
    """The dead events of one service, in its own database."""

    def __init__(self, service: str, database: Database) -> None:
        self._service = service
        self._database = database

    async def store(self, task: str, body: Any, reason: str) -> None:
        """Put one aside; only after this may its message be acknowledged."""
        try:
            await self._database.execute(_STORE, task, reason[:1000], body)
        except (UnstorableText, asyncpg.DataError):
            # JSON that jsonb can't hold (NUL, a lone surrogate, a huge number): kept as its text.
            escaped = {"unstorable": json.dumps(body, default=repr)}
            await self._database.execute(_STORE, task, reason[:1000], escaped)
        EVENTS_DEAD.labels(self._service, task, reason.split(":")[0][:40]).inc()
        log.error("event_dead", task=task, reason=reason)

    async def list(self, *, most: int, with_replayed: bool = False) -> list[DeadEvent]:
        """The newest first."""
        rows = await self._database.fetch(_LIST, most, with_replayed)
        return [DeadEvent(**dict(row)) for row in rows]

    async def get(self, id_: int) -> DeadEvent | None:
        row = await self._database.fetchrow(_GET, id_)
        return DeadEvent(**dict(row)) if row else None

    async def mark_replayed(self, id_: int) -> None:
        await self._database.execute(_REPLAYED, id_)

    async def close(self, id_: int, *, by: str, why: str) -> bool:
        """Wait for one no more; its reason then says who said so, and why. False: none waits."""
        note = f"{_CLOSED_BY}{by}: {why[:300]}"
        return await self._database.fetchrow(_CLOSE, id_, note) is not None


async def forget_replayed(database: Database, older_than: timedelta, *, most: int) -> int:
    """Drop those that were sent again, or closed, long ago; answers how many. Who waits stays."""
    tag = await database.execute(_FORGET_REPLAYED, older_than, most)
    return int(tag.rpartition(" ")[2])
