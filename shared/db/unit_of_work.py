"""State and facts commit together: one transaction, its repositories, and what it publishes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self
from uuid import UUID

from shared.db.database import Connection, Database
from shared.events import Event, Fact
from shared.ids import EventId

_INSERT_ONE = """
insert into outbox (event_id, stream, envelope, created_at) values ($1, $2, $3, $4)
"""

INSERT_OUTBOX = """
insert into outbox (event_id, stream, envelope, created_at)
select * from unnest($1::uuid[], $2::text[], $3::jsonb[], $4::timestamptz[])
"""

_INSERT_INBOX = """
insert into inbox (event_id) select unnest($1::uuid[])
on conflict do nothing returning event_id
"""


class SqlUnitOfWork:
    """Commits on a clean exit, rolls back otherwise. Services subclass it and add repositories."""

    service: ClassVar[str]

    def __init__(self, database: Database) -> None:
        self._database = database
        self._facts: list[Fact[Any]] = []
        self._stack = AsyncExitStack()
        self.connection: Connection

    async def __aenter__(self) -> Self:
        self.connection = await self._stack.enter_async_context(self._database.connection())
        try:
            await self._stack.enter_async_context(self.connection.transaction())
            self.open_repositories()
        except BaseException as error:
            await self._stack.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    def open_repositories(self) -> None:
        """Called once the transaction runs: set the repositories on `self.connection`."""

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        """Tell the other services, if and when this transaction commits."""
        fact = Fact(event=event, subject=subject, tier=tier, source=self.service)
        self._facts.append(replace(fact, id=id_) if id_ else fact)

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]:
        """Those of the ids that were never handled here, marked as handled from now on."""
        rows = await self.connection.fetch(_INSERT_INBOX, sorted(set(ids)))
        return {EventId(row["event_id"]) for row in rows}

    async def _tell(self) -> None:
        # Nearly always it is one, and arrays cost the driver more than the row itself.
        if len(self._facts) == 1:
            await self.connection.execute(_INSERT_ONE, *outbox_row(self._facts[0]))
        elif self._facts:
            await self.connection.execute(INSERT_OUTBOX, *outbox_columns(self._facts))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            await self._stack.__aexit__(kind, error, trace)
            return
        try:
            await self._tell()
        except BaseException as failure:
            await self._stack.__aexit__(type(failure), failure, failure.__traceback__)
            raise
        await self._stack.__aexit__(None, None, None)
        if self._facts:
            await self._database.wake_relay()


def outbox_row(fact: Fact[Any]) -> tuple[Any, ...]:
    """The fact in the order of the outbox's columns."""
    return fact.id, fact.stream, fact.to_wire(), fact.time


def outbox_columns(facts: Iterable[Fact[Any]]) -> tuple[list[Any], ...]:
    """The facts as the arrays that `INSERT_OUTBOX` takes."""
    rows = map(outbox_row, facts)
    return tuple([list(column) for column in zip(*rows, strict=True)])
