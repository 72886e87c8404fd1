"""The ledger's rows as exports have them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.billing.domain.correction import Correction
from services.billing.domain.period import Period
from services.billing.domain.usage_export import Day, Rows
from services.billing.storage.corrections import from_row as correction_from_row
from services.billing.storage.ledger_chain import COUNTS, UNLINKED
from shared.db.database import Connection
from shared.ids import EventId, UserId
from shared.money import dollars_text

_ENTRY = f"""
event_id, occurred_at, received_at, tier, operation, provider, model, source, outcome,
{", ".join(COUNTS)}, units, unit, service_tier, request_id, provider_request_id, session_id,
sandbox, pricing_status, cost_microusd, price_version, 'usage' as record,
null::uuid as correction_id, 1 as requests, (cost_microusd is null)::int as unpriced_requests,
user_id, producer, rated_at, cached, key_organisation_id
"""
_CORRECTION = f"""
event_id, occurred_at, made_at as received_at, null as tier, operation, provider, model, source,
null as outcome, {", ".join(COUNTS)}, coalesce(voided_units, 0) as units,
voided_unit as unit, null as service_tier,
null as request_id, null as provider_request_id, null::uuid as session_id, sandbox,
'rated' as pricing_status, cost_microusd, null as price_version, kind as record,
id as correction_id, requests, unpriced_requests, user_id, source as producer,
null::timestamptz as rated_at, false as cached, key_organisation_id
"""
# Whose key it ran on, and of what was voided its units, unless it is in a file. The limit says that
# each is looked up by its id: where there are many partitions, all of the ledger would be read for
# a few.
_CORRECTED = """
ledger_correction left join lateral (
    select case when ledger_correction.kind = 'voided' then -units end as voided_units,
           case when ledger_correction.kind = 'voided' then unit end as voided_unit,
           key_organisation_id
    from ledger_entry where ledger_entry.event_id = ledger_correction.event_id
    limit 1
) as corrected on true
"""
# As text, which sorts as ids do: they have no least one before PostgreSQL 18.
_BOUNDS = """
select min(event_id::text collate "C")::uuid as first,
       max(event_id::text collate "C")::uuid as last
from ledger_entry where occurred_at >= $1 and occurred_at < $2
"""
_ENTRIES = f"""
select {_ENTRY} from ledger_entry
where event_id >= $1 and event_id < $2 and ($3::timestamptz is null or received_at < $3)
order by event_id limit $4
"""  # noqa: S608 - made of constants
_ENTRIES_WITHIN = f"""
select {_ENTRY} from ledger_entry
where event_id >= $1 and event_id < $2 and ($3::timestamptz is null or received_at < $3)
  and occurred_at >= $5 and occurred_at < $6
order by event_id limit $4
"""  # noqa: S608
_CORRECTIONS_OF = f"""
select {_CORRECTION} from {_CORRECTED} where event_id = any($1::uuid[]) order by id
"""  # noqa: S608
_CORRECTIONS_ON = f"""
select {_CORRECTION} from {_CORRECTED}
where event_id >= $1 and event_id < $2 and id > $3
  and ($4::timestamptz is null or made_at < $4)
order by id limit $5
"""  # noqa: S608
_CORRECTIONS_WITHIN = f"""
select {_CORRECTION} from {_CORRECTED}
where occurred_at >= $1 and occurred_at < $2 and id > $3
  and ($4::timestamptz is null or made_at < $4)
order by id limit $5
"""  # noqa: S608
_CORRECTIONS_OF_USER = """
select * from ledger_correction where user_id = $1 and id > $2 order by id limit $3
"""
_ARCHIVED_WITHIN = """
select distinct h.partition from usage_archived_hour h
join ledger_archive a on a.partition = h.partition and a.state = 'dropped'
where h.hour >= date_trunc('hour', $1::timestamptz, 'UTC') and h.hour < $2
order by 1
"""
_ARCHIVED_ON = """
select partition from ledger_archive
where state = 'dropped' and first_chain <= $1 and last_chain >= $1 order by partition
"""
# Partition by partition, as their key has it.
_ARCHIVED_OF = """
select coalesce(sum(h.requests), 0)::bigint as requests
from ledger_archive a cross join lateral (
    select requests from usage_archived_hour h
    where h.partition = a.partition and h.user_id = $1
      and h.hour >= date_trunc('hour', $2::timestamptz, 'UTC') and h.hour < $3
) as h
where a.state = 'dropped'
"""
_UNLINKED = f"""
select exists (
    select 1 from {UNLINKED} u, unnest(u.ids) as event_id
    where u.kind <> 'correction' and event_id >= $1 and event_id < $2
) as found
"""  # noqa: S608
# Nobody waits for what is read here in pages; the first page of a long period may take a while.
_PATIENCE_SECONDS = 600.0
_FIRST = UUID(int=0)


class SqlUsageRows:
    """Rows on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def bounds(self, period: Period) -> tuple[UUID, UUID] | None:
        row = await self._connection.fetchrow(
            _BOUNDS, period.begins, period.ends, timeout=_PATIENCE_SECONDS
        )
        return None if row is None or row["first"] is None else (row["first"], row["last"])

    async def entries(
        self, first: UUID, end: UUID, *, within: Period | None, up_to: datetime | None, most: int
    ) -> Rows:
        if within is None:
            return await self._rows(_ENTRIES, first, end, up_to, most)
        return await self._rows(
            _ENTRIES_WITHIN, first, end, up_to, most, within.begins, within.ends
        )

    async def corrections_of(self, event_ids: Sequence[EventId]) -> Rows:
        return await self._rows(_CORRECTIONS_OF, list(event_ids))

    async def corrections_on(
        self, day: Day, *, after: UUID, up_to: datetime | None, most: int
    ) -> Rows:
        return await self._rows(_CORRECTIONS_ON, day.first_id, day.end_id, after, up_to, most)

    async def corrections_within(
        self, period: Period, *, after: UUID, up_to: datetime | None, most: int
    ) -> Rows:
        return await self._rows(_CORRECTIONS_WITHIN, period.begins, period.ends, after, up_to, most)

    async def corrections_of_user(
        self, user_id: UserId, *, after: UUID | None, most: int
    ) -> Sequence[Correction]:
        rows = await self._connection.fetch(_CORRECTIONS_OF_USER, user_id, after or _FIRST, most)
        return [correction_from_row(row) for row in rows]

    async def archived_within(self, period: Period) -> Sequence[str]:
        rows = await self._connection.fetch(_ARCHIVED_WITHIN, period.begins, period.ends)
        return [row["partition"] for row in rows]

    async def archived_on(self, day: Day) -> Sequence[str]:
        rows = await self._connection.fetch(_ARCHIVED_ON, day.chain)
        return [row["partition"] for row in rows]

    async def archived_of(self, user_id: UserId, period: Period) -> int:
        row = await self._connection.fetchrow(_ARCHIVED_OF, user_id, period.begins, period.ends)
        return int(row["requests"]) if row else 0

    async def waits_for_links(self, day: Day) -> bool:
        row = await self._connection.fetchrow(_UNLINKED, day.first_id, day.end_id)
        return row is not None and bool(row["found"])

    async def _rows(self, statement: str, *values: Any) -> Rows:
        found = await self._connection.fetch(statement, *values, timeout=_PATIENCE_SECONDS)
        return [{**row, "cost_usd": dollars_text(row["cost_microusd"])} for row in found]
