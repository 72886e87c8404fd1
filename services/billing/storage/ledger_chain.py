"""The ledger's chains: what waits for its link, the links, and what is counted with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.billing.domain.ledger_chain import (
    CORRECTIONS,
    COVERED,
    ENTRIES,
    KEY_FIELD,
    MARK_BYTES,
    Digests,
    Links,
    MarkedLinks,
)
from services.billing.domain.ledger_ports import ChainLag, MarkedBatch, Queue, Waiting
from shared.chain import Head
from shared.db.database import Connection, Row

_CHAIN_LOCK = 4244
# Lets go at the end of the transaction, when its links can be seen by the next one. Sums of a day
# are made without sorting all of its entries: PostgreSQL can't know how many there are of each.
_TAKE_TURN = """
select pg_try_advisory_xact_lock($1) as taken, set_config('enable_sort', 'off', true)
"""
# Who rates or corrects has its hours for some milliseconds.
_TAKE_TURN_BRIEFLY = f"""
{_TAKE_TURN.rstrip()}, set_config('lock_timeout', '250ms', true)
"""
# What is all entries first: a rating that can be seen, whose entry waits apart, comes with it or
# later. By id and not by time, which is that of a transaction's beginning. Ids of marked batches
# stay where they are: giving them to the driver and back costs as much as the links. The release
# before marks its batches too; they are few by now, and are read as if it had not.
_IS_MARKED = (
    f"coalesce(length(marks) = {MARK_BYTES} * cardinality(ids) and cardinality(ids) > 0, false)"
)
_WAITING = f"""
(select id, 'entry' as kind, '{Queue.UNCOUNTED}' as queue, 1 as turn,
        case when not {_IS_MARKED} then ids end as ids,
        case when {_IS_MARKED} then marks end as marks,
        ids[1] as first, ids[cardinality(ids)] as last
 from ledger_uncounted order by id limit $1)
union all
(select id, 'entry', '{Queue.COUNTED_OF_ORGANISATIONS}', 2, ids, null, null, null
 from ledger_unlinked_of_organisation order by id limit $1)
union all
(select id, kind, '{Queue.COUNTED}', 3, ids, null, null, null
 from ledger_unlinked order by id limit $1)
order by turn, id limit $1
"""  # noqa: S608 - made of constants
_IDS = "select id, ids from ledger_uncounted where id = any($1::bigint[])"
_TABLES = {
    Queue.UNCOUNTED: "ledger_uncounted",
    Queue.COUNTED: "ledger_unlinked",
    Queue.COUNTED_OF_ORGANISATIONS: "ledger_unlinked_of_organisation",
}
_TAKEN_UP = {
    queue: f"delete from {table} where id = any($1::bigint[])"  # noqa: S608
    for queue, table in _TABLES.items()
}
UNLINKED = """(
    select kind, ids, noted_at from ledger_unlinked
    union all
    select 'entry', ids, noted_at from ledger_unlinked_of_organisation
    union all
    select 'entry', ids, noted_at from ledger_uncounted
)"""
"""All that waits for its link."""

COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)
SUMS = ("requests", "unpriced_requests", *COUNTS, "cost_microusd")
_HOUR_KEY = "user_id, hour, provider, model, operation, sandbox"
_DAY_KEY = "user_id, day, provider, model, operation, sandbox"


def _digest_of(kind: str) -> str:
    fields = ", ".join(name for name, _ in COVERED[kind])
    digest = f"sha256(record_send(row({fields})))"
    if kind not in ENTRIES:
        return digest
    key = KEY_FIELD[0]
    of_organisation = f"sha256(record_send(row({fields}, {key})))"
    return f"case when {key} is null then {digest} else {of_organisation} end"


# An entry that was rated on its way in says so by its times: a later rating is later than the row.
_RATED_ON_ARRIVAL = "(rated_at is not null and rated_at <= received_at)"
# The records of a kind that are to be taken up, as one would read them: what their links cover, and
# what they add to the sums of their day. By a join: to plan for an array of thousands takes longer
# than to look them up. The bounds keep other partitions out of it.
_GIVEN_ENTRIES = """
ledger_entry join unnest($1::uuid[]) as given (id) on event_id = given.id
where event_id between $2 and $3
"""
_DAY = "(occurred_at at time zone 'UTC')::date as day"
_OF_WHOM = f"user_id, {_DAY}, provider, model, operation, sandbox"
_FOUND = {
    "entry": f"""
        select event_id as id, case when {_RATED_ON_ARRIVAL} then 'r' else 'e' end as kind,
               case when {_RATED_ON_ARRIVAL} then {_digest_of("r")} else {_digest_of("e")} end
               as digest,
               {_OF_WHOM}, 1 as requests, (not {_RATED_ON_ARRIVAL})::int as unpriced_requests,
               {", ".join(COUNTS)},
               case when {_RATED_ON_ARRIVAL} then cost_microusd else 0 end as cost_microusd
        from {_GIVEN_ENTRIES}
    """,  # noqa: S608 - made of constants
    "rating": f"""
        select event_id as id, 'l' as kind, {_digest_of("l")} as digest,
               {_OF_WHOM}, 0 as requests, -1 as unpriced_requests,
               {", ".join(f"0 as {name}" for name in COUNTS)}, cost_microusd
        from {_GIVEN_ENTRIES}
    """,  # noqa: S608
    "correction": f"""
        select id, 'c' as kind, {_digest_of("c")} as digest, {_OF_WHOM}, {", ".join(SUMS)}
        from ledger_correction where id = any($1::uuid[]) and id between $2 and $3
    """,  # noqa: S608
}


def _added_to(table: str, key: str, summed: str) -> str:
    """Sums on top of those that are there. In the order of their keys: two that share some never
    wait for each other in a circle."""
    return f"""
    insert into {table} as known ({key}, {", ".join(SUMS)})
    select {key}, {", ".join(SUMS)} from ({summed}) as summed order by {key}
    on conflict ({key}) do update set
        {", ".join(f"{name} = known.{name} + excluded.{name}" for name in SUMS)}
    """  # noqa: S608


def _by_day(source: str) -> str:
    sums = ", ".join(f"sum({name}) as {name}" for name in SUMS)
    return f"select {_DAY_KEY}, {sums} from {source} group by {_DAY_KEY}"  # noqa: S608


def _take_up(kind: str, *, are_counted: bool) -> str:
    counted = f", counted as ({_added_to('usage_day', _DAY_KEY, _by_day('found'))})"
    return f"""
    with found as materialized ({_FOUND[kind]}){"" if are_counted else counted}
    select coalesce(string_agg(kind, '' order by id), '') as kinds,
           coalesce(array_agg(id order by id), '{{}}') as ids,
           coalesce(string_agg(digest, ''::bytea order by id), '') as digests
    from found
    """  # noqa: S608 - made of the names above


# An array of ids that PostgreSQL has made itself is walked along the index, where a join would have
# to guess how many there are. Hours by the distance from any full one, and days without a zone's
# name: rules would be looked up for each entry.
_RATED = "rated_at <= received_at"
_AN_HOUR = "'2000-01-01 00:00:00+00'"
_IN_UTC = "(hour at time zone interval '0')::date as day"
_COUNT = f"""
with hours as materialized (
    select user_id, date_bin('1 hour', occurred_at, {_AN_HOUR}) as hour, provider, model,
           operation, sandbox, count(*) as requests,
           count(*) filter (where ({_RATED}) is not true) as unpriced_requests,
           {", ".join(f"sum({name}) as {name}" for name in COUNTS)},
           coalesce(sum(cost_microusd) filter (where {_RATED}), 0) as cost_microusd
    from ledger_entry
    where event_id = any(array(
        select unnest(ids) from ledger_uncounted where id = any($1::bigint[])
    )) and event_id between $2 and $3
    group by {_HOUR_KEY}
), days as (
    {_added_to("usage_day", _DAY_KEY, _by_day(f"(select *, {_IN_UTC} from hours) as h"))}
)
{_added_to("usage_hour", _HOUR_KEY, "select * from hours")}
"""  # noqa: S608 - made of the names above


# The last run of each: to look through all of a day's for it takes longer with each that is added.
def _heads(of: str) -> str:
    return f"""
    select chain, last_sequence, substring(links from length(links) - 31) as head
    from {of} cross join lateral (
        select last_sequence, links from ledger_link l where l.chain = wanted.chain
        order by first_sequence desc limit 1
    ) as last_run
    order by chain
    """  # noqa: S608 - made of constants


# From one chain to the next, past all runs between them.
_ALL_CHAINS = """
with recursive found (chain) as (
    select min(chain) from ledger_link
    union all
    select (select min(chain) from ledger_link l where l.chain > found.chain)
    from found where found.chain is not null
), wanted as (select chain from found where chain is not null)
"""
_HEADS = _heads("unnest($1::int[]) as wanted (chain)")
_ALL_HEADS = f"{_ALL_CHAINS} {_heads('wanted')}"

_ADD = """
insert into ledger_link (chain, first_sequence, last_sequence, kinds, ids, links)
values ($1, $2, $3, $4, $5, $6)
"""
# The ids of batches one after the other, in the order that is given.
_ADD_MARKED = """
insert into ledger_link (chain, first_sequence, last_sequence, kinds, links, ids)
select $1, $2, $3, $4, $5, array(
    select unnest(ids) from (
        select ids from unnest($6::bigint[]) with ordinality as given (id, place)
        join ledger_uncounted using (id)
        order by place
    ) as batches
)
"""

_CHAINS = f"{_ALL_CHAINS} select chain from wanted order by chain"  # noqa: S608
_AFTER = """
select chain, first_sequence, kinds, ids, links from ledger_link
where chain = $1 and first_sequence > $2 order by first_sequence limit $3
"""
_RECORDS = "select * from ledger_entry where event_id = any($1::uuid[])"
_CORRECTED = "select * from ledger_correction where id = any($1::uuid[])"

# An entry is covered by exactly one link, or waits for it; so is a later rating, which the release
# before may link while its entry waits apart. At one moment, so that nothing is between the two.
_UNCOVERED = f"""
with linked as (
    select u.id, string_agg(substring(l.kinds from u.place::int for 1), '') as kinds
    from ledger_link l, unnest(l.ids) with ordinality as u (id, place)
    where l.chain = $1 group by u.id
), waiting as (
    select unnest(ids) as id, kind from {UNLINKED} as u where kind <> 'correction'
)
select e.event_id, coalesce(l.kinds, '') as kinds
from ledger_entry e
left join linked l on l.id = e.event_id
where e.event_id >= $2 and e.event_id < $3
  and (
    (length(replace(coalesce(l.kinds, ''), 'l', '')) <> 1
     and not (coalesce(l.kinds, 'l') = 'l' and exists (
        select 1 from waiting w where w.id = e.event_id and w.kind = 'entry')))
    or (l.kinds = 'e' and e.rated_at is not null and not exists (
        select 1 from waiting w where w.id = e.event_id and w.kind = 'rating'))
  )
order by e.event_id limit 1
"""  # noqa: S608 - made of the constant above
_UNCOVERED_CORRECTION = """
select c.id from ledger_correction c
where not exists (select 1 from ledger_link l where l.chain = -1 and c.id = any(l.ids))
  and not exists (
    select 1 from ledger_unlinked u where u.kind = 'correction' and c.id = any(u.ids))
order by c.id limit 1
"""
_ENTRY_DAYS = """
select distinct (('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint
                 / 86400000)::int as chain
from ledger_entry
"""
_LAG = f"""
select coalesce(sum(cardinality(ids)), 0)::bigint as waiting, min(noted_at) as since
from {UNLINKED} as u
"""  # noqa: S608
# Links are given in the order in which records came. So of each chain the first run since then
# tells how long they had waited: its first entry does, since a price may come to one of long ago.
_RUN = "chain, first_sequence, linked_at, kinds"
_FIRST_ENTRY = "strpos(translate(kinds, 'r', 'e'), 'e')"
_LINKED_FROM = f"""
{_ALL_CHAINS}, lately as (
    select l.* from wanted cross join lateral (
        select {_RUN} from ledger_link l where l.chain = wanted.chain
        order by first_sequence desc limit 1
    ) as l where l.linked_at >= $1
    union all
    select l.* from lately cross join lateral (
        select {_RUN} from ledger_link l
        where l.chain = lately.chain and l.first_sequence < lately.first_sequence
        order by first_sequence desc limit 1
    ) as l where l.linked_at >= $1
), earliest as (
    select distinct on (chain) chain, first_sequence from lately
    where {_FIRST_ENTRY} > 0 order by chain, first_sequence
), entry as (
    select l.ids[{_FIRST_ENTRY}] as id
    from earliest join ledger_link l using (chain, first_sequence)
)
select min(e.received_at) as since from entry join ledger_entry e on e.event_id = entry.id
"""  # noqa: S608 - made of the names above
# Verifying reads much at a time and is in nobody's way.
_PATIENCE_SECONDS = 600.0


class SqlLedgerChain:
    """The chains, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take_turn(self, *, briefly: bool = False) -> bool:
        statement = _TAKE_TURN_BRIEFLY if briefly else _TAKE_TURN
        row = await self._connection.fetchrow(statement, _CHAIN_LOCK)
        return row is not None and bool(row["taken"])

    async def waiting(self, *, most: int) -> Sequence[Waiting | MarkedBatch]:
        found = [_waiting(row) for row in await self._connection.fetch(_WAITING, most)]
        return await self._without_wrong_marks(found)

    async def _without_wrong_marks(
        self, found: Sequence[Waiting | MarkedBatch]
    ) -> Sequence[Waiting | MarkedBatch]:
        """One batch whose marks are none must not keep all others from their links."""
        wrong = [one.id for one in found if isinstance(one, MarkedBatch) and not one.is_of_entries]
        if not wrong:
            return found
        rows = await self._connection.fetch(_IDS, wrong)
        ids = {row["id"]: row["ids"] for row in rows}
        return [
            Waiting(one.id, "entry", ids[one.id], Queue.UNCOUNTED)
            if isinstance(one, MarkedBatch) and one.id in ids
            else one
            for one in found
        ]

    async def count(self, uncounted: Sequence[Waiting | MarkedBatch]) -> None:
        some = [one for one in uncounted if isinstance(one, MarkedBatch) or one.ids]
        if some:
            bounds = min(map(_first, some)), max(map(_last, some))
            await self._connection.execute(_COUNT, [one.id for one in some], *bounds)

    async def take_up(self, kind: str, ids: Sequence[UUID], *, are_counted: bool) -> Digests:
        statement = _take_up(kind, are_counted=are_counted)
        row = await self._connection.fetchrow(statement, ids, min(ids), max(ids))
        assert row is not None
        return Digests(row["kinds"], row["ids"], row["digests"])

    async def heads(self, chains: Sequence[int] | None = None) -> Mapping[int, Head]:
        if chains is None:
            rows = await self._connection.fetch(_ALL_HEADS)
        else:
            rows = await self._connection.fetch(_HEADS, chains)
        return {row["chain"]: Head(row["last_sequence"], row["head"]) for row in rows}

    async def add(self, links: Links) -> None:
        await self._connection.execute(
            _ADD,
            links.chain,
            links.first,
            links.head.sequence,
            links.kinds,
            links.ids,
            links.links,
        )

    async def add_marked(self, links: MarkedLinks, batches: Sequence[MarkedBatch]) -> None:
        await self._connection.execute(
            _ADD_MARKED,
            links.chain,
            links.first,
            links.head.sequence,
            links.kinds,
            links.links,
            [one.id for one in batches],
        )

    async def taken_up(self, waiting: Sequence[Waiting | MarkedBatch]) -> None:
        for queue, statement in _TAKEN_UP.items():
            if numbers := [one.id for one in waiting if one.queue is queue]:
                await self._connection.execute(statement, numbers)

    async def chains(self) -> Sequence[int]:
        return [row["chain"] for row in await self._connection.fetch(_CHAINS)]

    async def days_of_entries(self) -> Sequence[int]:
        rows = await self._connection.fetch(_ENTRY_DAYS, timeout=_PATIENCE_SECONDS)
        return [row["chain"] for row in rows]

    async def after(self, chain: int, sequence: int, *, most: int) -> Sequence[Links]:
        rows = await self._connection.fetch(_AFTER, chain, sequence, most)
        return [links_of(row) for row in rows]

    async def records(self, links: Links) -> Mapping[UUID, Mapping[str, Any]]:
        if links.chain == CORRECTIONS:
            rows = await self._connection.fetch(_CORRECTED, links.ids)
            return {row["id"]: row for row in rows}
        rows = await self._connection.fetch(_RECORDS, links.ids)
        return {row["event_id"]: row for row in rows}

    async def uncovered(self, chain: int) -> UUID | None:
        """A record of this day that has not the one link that is due, and does not wait for it."""
        if chain == CORRECTIONS:
            row = await self._connection.fetchrow(_UNCOVERED_CORRECTION)
            return row["id"] if row else None
        row = await self._connection.fetchrow(
            _UNCOVERED, chain, first_id(chain), first_id(chain + 1), timeout=_PATIENCE_SECONDS
        )
        return row["event_id"] if row else None

    async def lag(self) -> ChainLag:
        row = await self._connection.fetchrow(_LAG)
        assert row is not None
        return ChainLag(row["waiting"], row["since"])

    async def linked_from(self, since: datetime) -> datetime | None:
        row = await self._connection.fetchrow(_LINKED_FROM, since)
        return row["since"] if row else None


def _waiting(row: Row) -> Waiting | MarkedBatch:
    if row["marks"] is None:
        return Waiting(row["id"], row["kind"], row["ids"], Queue(row["queue"]))
    return MarkedBatch(row["id"], row["first"], row["last"], row["marks"])


def _first(batch: Waiting | MarkedBatch) -> UUID:
    return batch.first if isinstance(batch, MarkedBatch) else min(batch.ids)


def _last(batch: Waiting | MarkedBatch) -> UUID:
    return batch.last if isinstance(batch, MarkedBatch) else max(batch.ids)


def first_id(chain: int) -> UUID:
    """No id of that day is lower."""
    return UUID(int=min(chain * 86_400_000, 2**48 - 1) << 80)


def links_of(row: Row) -> Links:
    """A run of links out of its row."""
    return Links(row["chain"], row["first_sequence"], row["kinds"], row["ids"], row["links"])
