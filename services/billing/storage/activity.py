"""Rollups that follow the ledger's chains: who was active, and what all used together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from services.billing.domain.ledger_chain import CORRECTIONS
from services.billing.storage.ledger_chain import COUNTS, SUMS
from shared.db.database import Connection, Row
from shared.ids import UserId

_LOCK = 4247
_TAKE_TURN = "select pg_try_advisory_xact_lock($1)"

# Chains are few (one a day), their links are many: step from chain to chain along the index.
_BEHIND = """
with recursive known (chain) as (
    (select chain from ledger_link order by chain limit 1)
    union all
    select (select l.chain from ledger_link l where l.chain > k.chain order by l.chain limit 1)
    from known k where k.chain is not null
)
select k.chain, coalesce(c.sequence, 0) as sequence
from known k
cross join lateral (
    select last_sequence from ledger_link l where l.chain = k.chain
    order by first_sequence desc limit 1
) as newest
left join analytics_cursor c on c.chain = k.chain
where newest.last_sequence > coalesce(c.sequence, 0)
order by k.chain limit 1
"""
_NEXT = """
select last_sequence, kinds, ids from ledger_link
where chain = $1 and first_sequence > $2 order by first_sequence limit $3
"""
_MOVE = """
insert into analytics_cursor (chain, sequence) values ($1, $2)
on conflict (chain) do update set sequence = excluded.sequence
"""
_KEY = "day, tier, service, provider, model, operation"
_ADD = f"""
on conflict ({_KEY}) do update set
    {", ".join(f"{name} = known.{name} + excluded.{name}" for name in SUMS)}
"""
_DAY = "(e.occurred_at at time zone 'UTC')::date"
# A join: to plan for an array of thousands takes longer than to look them up. The bounds keep other
# partitions out of it.
_GIVEN = """
unnest($1::uuid[]) as given (id) join ledger_entry e on e.event_id = given.id
where e.event_id between $2 and $3 and not e.sandbox
"""

# A link of kind `e` is an entry without a price, `r` one with it, `l` a price that came later.
_TOTAL_ENTRIES = f"""
insert into usage_total as known ({_KEY}, {", ".join(SUMS)})
select {_DAY}, e.tier, e.producer, e.provider, e.model, e.operation,
       count(*) filter (where u.kind <> 'l'),
       count(*) filter (where u.kind = 'e') - count(*) filter (where u.kind = 'l'),
       {", ".join(f"coalesce(sum(e.{name}) filter (where u.kind <> 'l'), 0)" for name in COUNTS)},
       coalesce(sum(e.cost_microusd) filter (where u.kind <> 'e'), 0)
from unnest($1::uuid[], $2::text[]) as u (id, kind)
join ledger_entry e on e.event_id = u.id
where e.event_id between $3 and $4 and not e.sandbox
group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6
{_ADD}
"""  # noqa: S608 - made of constants
_TOTAL_CORRECTIONS = f"""
insert into usage_total as known ({_KEY}, {", ".join(SUMS)})
select (c.occurred_at at time zone 'UTC')::date, e.tier, e.producer, c.provider, c.model,
       c.operation, {", ".join(f"sum(c.{name})" for name in SUMS)}
from ledger_correction c join ledger_entry e on e.event_id = c.event_id
where c.id = any($1::uuid[]) and not c.sandbox
group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6
{_ADD}
"""  # noqa: S608

# A user has one row for a span of time and service, with the tier of their last call in it; so
# that users by tier are as many as users.
_ACTIVE = f"""
insert into user_activity as known (grain, begins, service, user_id, tier, last_at)
select g.grain, g.begins, s.service, d.user_id,
       (array_agg(d.tier order by d.last_at desc))[1], max(d.last_at)
from (
    select e.user_id, {_DAY} as day, e.producer, e.tier, max(e.occurred_at) as last_at
    from {_GIVEN} group by 1, 2, 3, 4
) as d
cross join lateral (values
    ('day', d.day),
    ('week', date_trunc('week', d.day::timestamp)::date),
    ('month', date_trunc('month', d.day::timestamp)::date)
) as g (grain, begins)
cross join lateral (values ('all'), (d.producer)) as s (service)
group by 1, 2, 3, 4 order by 1, 2, 3, 4
on conflict (grain, begins, service, user_id) do update set
    tier = excluded.tier, last_at = excluded.last_at
where excluded.last_at > known.last_at
"""  # noqa: S608
_SEEN = """
insert into user_first_seen as known (user_id, day)
select user_id, min(day) from ({source}) as seen group by 1 order by 1
on conflict (user_id) do update set day = excluded.day where excluded.day < known.day
"""
_SEEN_USING = _SEEN.format(
    source=f"select e.user_id, {_DAY} as day from {_GIVEN}"  # noqa: S608
)
_SEEN_REGISTERING = _SEEN.format(
    source="select * from unnest($1::uuid[], $2::date[]) as u (user_id, day)"
)
# About ten thousand records a step where much is going on.
_RUNS = 20


class SqlActivity:
    """The rollups on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take_turn(self) -> bool:
        row = await self._connection.fetchrow(_TAKE_TURN, _LOCK)
        return row is not None and bool(row[0])

    async def take_up(self) -> int:
        behind = await self._connection.fetchrow(_BEHIND)
        if behind is None:
            return 0
        chain = behind["chain"]
        runs = await self._connection.fetch(_NEXT, chain, behind["sequence"], _RUNS)
        ids = [id_ for run in runs for id_ in run["ids"]]
        if chain == CORRECTIONS:
            await self._connection.execute(_TOTAL_CORRECTIONS, ids)
        else:
            await self._count(runs)
        await self._connection.execute(_MOVE, chain, runs[-1]["last_sequence"])
        return len(ids)

    async def _count(self, runs: Sequence[Row]) -> None:
        ids = [id_ for run in runs for id_ in run["ids"]]
        kinds = [kind for run in runs for kind in run["kinds"]]
        bounds = (min(ids), max(ids))
        await self._connection.execute(_TOTAL_ENTRIES, ids, kinds, *bounds)
        called = [id_ for id_, kind in zip(ids, kinds, strict=True) if kind != "l"]
        await self._connection.execute(_ACTIVE, called, *bounds)
        await self._connection.execute(_SEEN_USING, called, *bounds)

    async def note_registered(self, users: Sequence[tuple[UserId, date]]) -> None:
        await self._connection.execute(
            _SEEN_REGISTERING, [user for user, _ in users], [day for _, day in users]
        )
