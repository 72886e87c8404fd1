"""Partitions of the ledger on their way into files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.billing.domain.archive import Archive, ArchiveState, Contents, Partition
from services.billing.storage.ledger_chain import COUNTS, SUMS, UNLINKED
from services.billing.storage.price_effects import TO_RERATE
from shared.db.database import Connection, Row

_BOUNDS = re.compile(r"FOR VALUES FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")
_NAME = re.compile(r"ledger_entry_[0-9_]+")
_PARTITIONS = """
select c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bounds
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'ledger_entry'::regclass order by c.relname
"""
_ALL = "select * from ledger_archive order by partition"
_GET = "select * from ledger_archive where partition = $1"
_NOTE = """
insert into ledger_archive
    (partition, begins, ends, first_chain, last_chain, state, summary, changed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (partition) do update set
    state = excluded.state, summary = excluded.summary, changed_at = excluded.changed_at
where ledger_archive.state <> 'dropped'
"""
# A voided entry never gets a price, and needs none; nor is one of the sandbox ever charged.
_UNPRICED = """
select exists (
    select 1 from ledger_entry e
    where pricing_status = 'unknown_price' and event_id >= $1 and event_id < $2 and not sandbox
      and not exists (select 1 from ledger_correction c
                      where c.event_id = e.event_id and c.kind = 'voided')
) as found
"""
_UNLINKED = f"""
select exists (
    select 1 from {UNLINKED} u, unnest(u.ids) as event_id
    where u.kind <> 'correction' and event_id >= $1 and event_id < $2
) as found
"""  # noqa: S608 - made of the constant
_OPEN = """
select exists (
    select 1 from (
        select generate_series(
            date_trunc('month', to_timestamp($1::bigint / 1000) at time zone 'UTC'),
            (to_timestamp(($2::bigint - 1) / 1000) at time zone 'UTC'),
            interval '1 month')::date as month
    ) as months where not exists (select 1 from period p where p.month = months.month)
) as found
"""
# What has left can be invoiced no more: late entries, later prices and corrections wait for it. Of
# what waited for two people and was voided nothing will be.
_NOT_INVOICED = """
select exists (
    select 1 from ledger_entry e
    left join invoice_item i on i.source_id = e.event_id and i.aspect = 'usage'
    where e.event_id >= $1 and e.event_id < $2 and not e.sandbox
      and (i.source_id is null and not exists (
               select 1 from aged_usage a join ledger_correction c using (event_id)
               where a.event_id = e.event_id and a.released_at is null and c.kind = 'voided')
           or (i.unpriced and e.cost_microusd is not null and not exists (
               select 1 from invoice_item known
               where known.source_id = e.event_id and known.aspect = 'priced')))
) or exists (
    select 1 from ledger_correction c
    where c.event_id >= $1 and c.event_id < $2 and not c.sandbox
      and not exists (select 1 from invoice_item known
                      where known.source_id = c.id and known.aspect = 'correction')
      and not exists (select 1 from aged_usage a
                      where a.event_id = c.event_id and a.released_at is null)
) as found
"""
# Corrections are counted with the tier of their entry.
_NOT_COUNTED = """
select exists (
    select 1 from ledger_link l left join analytics_cursor a on a.chain = l.chain
    where (l.chain >= $1 and l.chain < $2 or l.chain = -1)
      and l.last_sequence > coalesce(a.sequence, 0)
) as found
"""
# What has left can't be corrected any more.
_TO_RERATE = f"""
select exists (
    select 1 from {TO_RERATE}
    where r.done_at is null and e.event_id >= $1 and e.event_id < $2 and not e.sandbox
) as found
"""  # noqa: S608 - made of our own SQL
_HINDRANCES = (
    (_UNPRICED, "some of it has no price yet"),
    (_UNLINKED, "some of it has no link yet"),
    (_TO_RERATE, "a price is not applied to some of it yet"),
    (_NOT_INVOICED, "some of it is on no invoice yet"),
)

_BRIEFLY = "set local lock_timeout = '2s'"
_HEADS = """
select distinct on (chain) chain, last_sequence,
       encode(substring(links from length(links) - 31), 'hex') as head
from ledger_link where chain >= $1 and chain < $2 order by chain, first_sequence desc
"""
_FORGET_LINKS = "delete from ledger_link where chain >= $1 and chain < $2"
# Of an endpoint that is switched off: a run of links that are gone would be told as empty.
_FORGET_RUNS = "delete from webhook_delivery where chain >= $1 and chain < $2"
# Nobody reaches it without its entry.
_FORGET_METADATA = "delete from usage_metadata where event_id >= $1 and event_id < $2"
_WHOSE = "provider, model, operation, sandbox"


def _keep_sums(partition: str) -> str:
    return f"""
    insert into usage_archived_hour (partition, user_id, hour, {_WHOSE}, {", ".join(SUMS)})
    select $1, user_id, date_trunc('hour', occurred_at, 'UTC'), {_WHOSE}, count(*),
           count(*) filter (where cost_microusd is null),
           {", ".join(f"sum({name})" for name in COUNTS)}, coalesce(sum(cost_microusd), 0)
    from {partition} group by 2, 3, 4, 5, 6, 7
    """  # noqa: S608 - a partition's name, of digits


def _keep_sums_of_organisations(partition: str) -> str:
    """With what was put right since: what has left can't be corrected any more."""
    return f"""
    insert into usage_archived_organisation_hour
        (partition, organisation_id, user_id, hour, {_WHOSE}, {", ".join(SUMS)})
    select $1, organisation_id, user_id, date_trunc('hour', occurred_at, 'UTC'), {_WHOSE},
           {", ".join(f"sum({name})" for name in SUMS)}
    from (
        select key_organisation_id as organisation_id, user_id, occurred_at, {_WHOSE},
               1 as requests, (cost_microusd is null)::int as unpriced_requests,
               {", ".join(COUNTS)}, coalesce(cost_microusd, 0) as cost_microusd
        from {partition} where key_organisation_id is not null
        union all
        select e.key_organisation_id, c.user_id, c.occurred_at,
               {", ".join(f"c.{name}" for name in (*_WHOSE.split(", "), *SUMS))}
        from {partition} e join ledger_correction c on c.event_id = e.event_id
        where e.key_organisation_id is not null
    ) as one
    group by 2, 3, 4, 5, 6, 7, 8
    """  # noqa: S608 - a partition's name, of digits


_PATIENCE_SECONDS = 3600.0


class SqlLedgerArchive:
    """The archive's state on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def partitions(self) -> Sequence[Partition]:
        found = []
        for row in await self._connection.fetch(_PARTITIONS):
            bounds = _BOUNDS.fullmatch(row["bounds"])
            if bounds is not None and _NAME.fullmatch(row["name"]):
                found.append(Partition(row["name"], UUID(bounds[1]), UUID(bounds[2])))
        return found

    async def all(self) -> Sequence[Archive]:
        return [_archive(row) for row in await self._connection.fetch(_ALL)]

    async def get(self, partition: str) -> Archive | None:
        row = await self._connection.fetchrow(_GET, partition)
        return _archive(row) if row else None

    async def hindrance(self, partition: Partition) -> str | None:
        for statement, reason in _HINDRANCES:
            row = await self._connection.fetchrow(
                statement, partition.begins, partition.ends, timeout=_PATIENCE_SECONDS
            )
            if row is not None and row["found"]:
                return reason
        chains = partition.chains
        row = await self._connection.fetchrow(
            _NOT_COUNTED, chains.start, chains.stop, timeout=_PATIENCE_SECONDS
        )
        if row is not None and row["found"]:
            return "some of it is not in the analytics yet"
        row = await self._connection.fetchrow(
            _OPEN, partition.begins.int >> 80, partition.ends.int >> 80
        )
        return "its month is not closed yet" if row is not None and row["found"] else None

    async def note(
        self, partition: Partition, state: ArchiveState, contents: Contents | None, at: datetime
    ) -> None:
        await self._connection.execute(
            _NOTE,
            partition.name,
            partition.begins,
            partition.ends,
            partition.chains.start,
            partition.chains.stop - 1,
            state,
            contents.as_json() if contents else None,
            at,
        )

    async def drop(self, partition: Partition, contents: Contents, at: datetime) -> bool:
        name = partition.name
        assert _NAME.fullmatch(name)
        await self._connection.execute(_BRIEFLY)
        # Nobody adds to it or corrects it from here on, while all of it can still be read.
        await self._connection.execute(f"lock table {name} in exclusive mode")
        if await self.hindrance(partition) or not await self._is_what_was_archived(
            partition, contents
        ):
            return False
        for keep in (_keep_sums, _keep_sums_of_organisations):
            await self._connection.execute(keep(name), name, timeout=_PATIENCE_SECONDS)
        chains = partition.chains
        for statement in (_FORGET_LINKS, _FORGET_RUNS):
            await self._connection.execute(
                statement, chains.start, chains.stop, timeout=_PATIENCE_SECONDS
            )
        await self._connection.execute(
            _FORGET_METADATA, partition.begins, partition.ends, timeout=_PATIENCE_SECONDS
        )
        # Last, since nobody reads or adds to any of the ledger from here to the end of the work.
        await self._connection.execute(f"alter table ledger_entry detach partition {name}")
        await self._connection.execute(f"drop table {name}")
        await self.note(partition, "dropped", contents, at)
        return True

    async def _is_what_was_archived(self, partition: Partition, contents: Contents) -> bool:
        row = await self._connection.fetchrow(
            f"select count(*) as rows from {partition.name}",  # noqa: S608
            timeout=_PATIENCE_SECONDS,
        )
        chains = partition.chains
        rows = await self._connection.fetch(_HEADS, chains.start, chains.stop)
        heads = {str(one["chain"]): f"{one['last_sequence']}:{one['head']}" for one in rows}
        return row is not None and row["rows"] == contents.entries and heads == contents.heads


def _archive(row: Row) -> Archive:
    return Archive(
        partition=Partition(row["partition"], row["begins"], row["ends"]),
        state=row["state"],
        contents=Contents.from_json(row["summary"]) if row["summary"] else None,
        changed_at=row["changed_at"],
    )
