"""What is to be delivered to webhooks, and what became of it.

Claimed by state and lease, never by position. A claim is made by one process at a time, so that an
endpoint never has more than its share under way, however many processes deliver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from services.billing.domain.ledger_chain import chain_name
from services.billing.domain.webhook import (
    USAGE,
    Delivery,
    DeliveryId,
    DeliveryState,
    EndpointId,
    EndpointOwner,
    LedgerRun,
    new_delivery_id,
)
from services.billing.domain.webhook_ports import Claim, WebhookBacklog
from services.billing.storage.webhooks import endpoint_of
from shared.db.database import Connection, Row
from shared.ids import UserId

_CLAIM_LOCK = 4245
_TAKE_TURN = "select pg_advisory_xact_lock($1)"

# At once for one endpoint: more while it answers, one at a time after it failed.
_SHARE, _DOUBTFUL_SHARE = 4, 1

_WHO_WANTS_USAGE = """
select e.id from webhook_endpoint e
where e.owner_id is null and e.disabled_at is null and $2 = any(e.types)
  and (e.paused_until is null or e.paused_until <= $1)
  and not exists (
    select 1 from webhook_delivery d
    left join webhook_usage_cursor c on c.endpoint_id = d.endpoint_id and c.chain = d.chain
    where d.endpoint_id = e.id and d.state = 'waiting' and d.chain is not null
      and d.last_sequence > coalesce(c.sequence, 0))
"""
# The chains one by one by their index; of each its end. Corrections come after what they correct.
_CUT = """
with recursive chains (chain) as (
    (select chain from ledger_link order by chain limit 1)
    union all
    select (select l.chain from ledger_link l where l.chain > c.chain order by l.chain limit 1)
    from chains c where c.chain is not null
), ends as (
    select chain, (
        select last_sequence from ledger_link l where l.chain = chains.chain
        order by first_sequence desc limit 1) as last
    from chains where chain is not null
)
select distinct on (e.id) e.id, x.chain, coalesce(c.sequence, 0) + 1 as first,
       least(x.last, coalesce(c.sequence, 0) + $2) as last
from unnest($1::uuid[]) as e (id)
cross join ends x
left join webhook_usage_cursor c on c.endpoint_id = e.id and c.chain = x.chain
where x.last > coalesce(c.sequence, 0)
order by e.id, x.chain < 0, x.chain
"""
_ADD_RUNS = """
insert into webhook_delivery
    (id, endpoint_id, type, effect_key, chain, first_sequence, last_sequence, created_at, state,
     next_attempt_at)
select id, endpoint_id, $6, 'usage/' || chain || '/' || first || '-' || last, chain, first, last,
       $7, 'waiting', $7
from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::bigint[])
     as cut (id, endpoint_id, chain, first, last)
on conflict (endpoint_id, effect_key) do update
    set state = 'waiting', next_attempt_at = excluded.next_attempt_at, settled_at = null
"""

_CLAIM = f"""
with recursive waiting (endpoint_id) as (
    (select endpoint_id from webhook_delivery where state = 'waiting'
     order by endpoint_id limit 1)
    union all
    select (select d.endpoint_id from webhook_delivery d
            where d.state = 'waiting' and d.endpoint_id > w.endpoint_id
            order by d.endpoint_id limit 1)
    from waiting w where w.endpoint_id is not null
), ready as (
    select e.id, e.failures > 0 as doubtful,
           case when e.failures > 0 then {_DOUBTFUL_SHARE} else {_SHARE} end - (
               select count(*) from webhook_delivery x
               where x.endpoint_id = e.id and x.lease_id is not null and x.leased_until > $1
           ) as room
    from waiting w join webhook_endpoint e on e.id = w.endpoint_id
    where e.disabled_at is null and (e.paused_until is null or e.paused_until <= $1)
), due as (
    select d.id, r.doubtful, d.next_attempt_at from ready r cross join lateral (
        select o.id, o.next_attempt_at from webhook_delivery o
        where o.endpoint_id = r.id and o.state = 'waiting' and o.next_attempt_at <= $1
          and (o.lease_id is null or o.leased_until <= $1)
        order by o.next_attempt_at, o.id
        limit greatest(r.room, 0)
        for update skip locked
    ) as d
), chosen as (
    select id from (
        select id, doubtful, next_attempt_at,
               row_number() over (partition by doubtful order by next_attempt_at) as place
        from due) as ordered
    where not doubtful or place <= $5
    order by next_attempt_at
    limit $4
)
update webhook_delivery d set lease_id = $3, leased_until = $2
from chosen where d.id = chosen.id
returning d.*
"""  # noqa: S608 - made of the two numbers above
_ENDPOINTS = "select * from webhook_endpoint where id = any($1::uuid[])"

_BACKLOG = """
select count(*) filter (where d.state = 'waiting' and d.next_attempt_at <= $1) as due,
       min(d.created_at) filter (where d.state = 'waiting') as oldest,
       count(*) filter (where d.state = 'dead') as given_up
from webhook_delivery d join webhook_endpoint e on e.id = d.endpoint_id
where e.disabled_at is null
  and (d.state = 'waiting' or (d.state = 'dead' and d.settled_at > $2))
"""

_SETTLE = """
update webhook_delivery set
    state = $3, attempts = $4, next_attempt_at = $5, last_attempt_at = $6, last_status = $7,
    last_problem = $8, settled_at = $9, lease_id = null, leased_until = null
where id = $1 and lease_id = $2
returning id
"""
_ADD = """
insert into webhook_delivery
    (id, endpoint_id, holder_id, type, effect_key, body, created_at, state, next_attempt_at)
values ($1, $2, $3, $4, $5, $6, $7, 'waiting', $8)
on conflict (endpoint_id, effect_key) do nothing returning id
"""
_GET = "select * from webhook_delivery where id = $1"
_OF = """
select * from webhook_delivery
where endpoint_id = $1 and ($2::text is null or state = $2) and ($3::uuid is null or id < $3)
order by id desc limit $4
"""
_DEAD = """
select d.* from webhook_delivery d join webhook_endpoint e on e.id = d.endpoint_id
where e.owner_kind = $1 and e.owner_id is not distinct from $2 and d.state = 'dead'
  and ($3::uuid is null or d.id < $3)
order by d.id desc limit $4
"""
_AGAIN = "state = 'waiting', attempts = 0, settled_at = null"
_REDELIVER = f"""
update webhook_delivery set {_AGAIN}, next_attempt_at = $2 where id = $1
"""  # noqa: S608 - made of the constant above
_REDELIVER_SINCE = f"""
update webhook_delivery set {_AGAIN}, next_attempt_at = $3
where endpoint_id = $1 and created_at >= $2 and (state = 'dead' or ($4 and state = 'delivered'))
"""  # noqa: S608
# What is under way is settled by who has it.
_GIVE_UP = """
update webhook_delivery set state = 'dead', settled_at = $2
where endpoint_id = $1 and state = 'waiting' and chain is null
  and (lease_id is null or leased_until <= $2)
"""
_GO_ON = """
update webhook_delivery set next_attempt_at = $2
where endpoint_id = $1 and state = 'waiting' and next_attempt_at > $2
"""

# A row holds thousands of links: only the part that is asked for is taken apart.
_LINKED = """
select substring(part.kinds from u.place::int for 1) as kind, u.id
from (
    select first_sequence,
           substring(kinds from greatest($2 - first_sequence, 0)::int + 1
                     for (least($3, last_sequence) - greatest($2, first_sequence) + 1)::int)
               as kinds,
           ids[greatest($2 - first_sequence, 0) + 1 : $3 - first_sequence + 1] as ids
    from ledger_link
    where chain = $1 and first_sequence <= $3 and last_sequence >= $2
    offset 0
) as part, unnest(part.ids) with ordinality as u (id, place)
order by part.first_sequence, u.place
"""
_ENTRIES = "select * from ledger_entry where event_id = any($1::uuid[])"
_CORRECTIONS = "select * from ledger_correction where id = any($1::uuid[])"
_TAKEN = """
insert into webhook_usage_cursor as known (endpoint_id, chain, sequence) values ($1, $2, $3)
on conflict (endpoint_id, chain) do update set sequence = greatest(known.sequence, $3)
"""
_FORGET = """
delete from webhook_delivery
where (state = 'delivered' and settled_at < $1) or (state = 'dead' and settled_at < $2)
"""

_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)
_FACTS = (
    "user_id",
    "operation",
    "provider",
    "model",
    "source",
    "outcome",
    *_COUNTS,
    "units",
    "unit",
    "service_tier",
    "request_id",
    "provider_request_id",
    "session_id",
    "sandbox",
    "cached",
    "key_organisation_id",
)
_RATING = ("cost_microusd", "price_version")


class SqlWebhookOutbox:
    """Deliveries on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def backlog(self, now: datetime, *, since: datetime) -> WebhookBacklog:
        row = await self._connection.fetchrow(_BACKLOG, now, since)
        assert row is not None
        return WebhookBacklog(row["due"], row["oldest"], row["given_up"])

    async def cut_usage(self, now: datetime, *, most: int) -> int:
        await self._connection.execute(_TAKE_TURN, _CLAIM_LOCK)
        wanting = await self._connection.fetch(_WHO_WANTS_USAGE, now, USAGE)
        if not wanting:
            return 0
        rows = await self._connection.fetch(_CUT, [row["id"] for row in wanting], most)
        if rows:
            await self._connection.execute(
                _ADD_RUNS,
                [new_delivery_id() for _ in rows],
                *([row[name] for row in rows] for name in ("id", "chain", "first", "last")),
                USAGE,
                now,
            )
        return len(rows)

    async def claim(
        self, now: datetime, until: datetime, *, most: int, most_doubtful: int
    ) -> Sequence[Claim]:
        await self._connection.execute(_TAKE_TURN, _CLAIM_LOCK)
        lease_id = uuid4()
        rows = await self._connection.fetch(_CLAIM, now, until, lease_id, most, most_doubtful)
        if not rows:
            return []
        found = await self._connection.fetch(_ENDPOINTS, [row["endpoint_id"] for row in rows])
        endpoints = {row["id"]: endpoint_of(row) for row in found}
        return [
            Claim(_from_row(row), endpoints[row["endpoint_id"]], lease_id)
            for row in rows
            if row["endpoint_id"] in endpoints
        ]

    async def settle(self, delivery: Delivery, lease_id: UUID) -> bool:
        row = await self._connection.fetchrow(
            _SETTLE,
            delivery.id,
            lease_id,
            delivery.state,
            delivery.attempts,
            delivery.next_attempt_at,
            delivery.last_attempt_at,
            delivery.last_status,
            delivery.last_problem,
            delivery.settled_at,
        )
        return row is not None

    async def add(self, delivery: Delivery) -> bool:
        row = await self._connection.fetchrow(
            _ADD,
            delivery.id,
            delivery.endpoint_id,
            delivery.holder,
            delivery.type,
            delivery.effect_key,
            delivery.body,
            delivery.created_at,
            delivery.next_attempt_at,
        )
        return row is not None

    async def get(self, delivery_id: DeliveryId) -> Delivery | None:
        row = await self._connection.fetchrow(_GET, delivery_id)
        return _from_row(row) if row else None

    async def of(
        self,
        endpoint_id: EndpointId,
        *,
        state: DeliveryState | None,
        after: DeliveryId | None,
        most: int,
    ) -> Sequence[Delivery]:
        rows = await self._connection.fetch(_OF, endpoint_id, state, after, most)
        return [_from_row(row) for row in rows]

    async def dead(
        self, owner: EndpointOwner, *, after: DeliveryId | None, most: int
    ) -> Sequence[Delivery]:
        rows = await self._connection.fetch(_DEAD, owner.kind, owner.id, after, most)
        return [_from_row(row) for row in rows]

    async def redeliver(self, delivery_id: DeliveryId, now: datetime) -> None:
        await self._connection.execute(_REDELIVER, delivery_id, now)

    async def redeliver_since(
        self, endpoint_id: EndpointId, since: datetime, *, all_states: bool, now: datetime
    ) -> int:
        tag = await self._connection.execute(_REDELIVER_SINCE, endpoint_id, since, now, all_states)
        return int(tag.rpartition(" ")[2])

    async def give_up(self, endpoint_id: EndpointId, now: datetime) -> None:
        await self._connection.execute(_GIVE_UP, endpoint_id, now)

    async def go_on(self, endpoint_id: EndpointId, now: datetime) -> None:
        await self._connection.execute(_GO_ON, endpoint_id, now)

    async def usage(self, run: LedgerRun) -> Mapping[str, Any]:
        linked = await self._connection.fetch(_LINKED, run.chain, run.first, run.last)
        of_kind = {
            kind: [row["id"] for row in linked if row["kind"] == kind] for kind in ("e", "r", "l")
        }
        entries = await self._rows(_ENTRIES, [row["id"] for row in linked], "event_id")
        corrections = await self._rows(
            _CORRECTIONS, [row["id"] for row in linked if row["kind"] == "c"], "id"
        )
        rated = set(of_kind["r"])
        # The cost as the link tells it: the same at each attempt, whatever is rated in between.
        events = [
            _event(entries[row["id"]], with_rating=row["id"] in rated)
            for row in linked
            if row["kind"] in ("e", "r") and row["id"] in entries
        ]
        ratings = [
            {"id": str(id_), **{name: entries[id_][name] for name in _RATING}}
            for id_ in of_kind["l"]
            if id_ in entries
        ]
        return {
            "chain": chain_name(run.chain),
            "first_sequence": run.first,
            "last_sequence": run.last,
            "events": events,
            "ratings": ratings,
            "corrections": [
                _correction(corrections[row["id"]]) for row in linked if row["id"] in corrections
            ],
        }

    async def _rows(self, sql: str, ids: Sequence[UUID], key: str) -> Mapping[UUID, Row]:
        rows = await self._connection.fetch(sql, ids) if ids else []
        return {row[key]: row for row in rows}

    async def usage_taken(self, endpoint_id: EndpointId, run: LedgerRun) -> None:
        await self._connection.execute(_TAKEN, endpoint_id, run.chain, run.last)

    async def forget(self, *, delivered_before: datetime, dead_before: datetime) -> None:
        await self._connection.execute(_FORGET, delivered_before, dead_before)


def _event(row: Row, *, with_rating: bool) -> Mapping[str, Any]:
    facts = {name: row[name] for name in _FACTS}
    rating = {name: row[name] if with_rating else None for name in _RATING}
    return {
        "id": str(row["event_id"]),
        "source": row["producer"],
        "time": row["occurred_at"],
        "tier": row["tier"],
        "data": facts | rating,
    }


def _correction(row: Row) -> Mapping[str, Any]:
    signed = ("requests", *_COUNTS, "cost_microusd")
    return {
        "id": str(row["id"]),
        "event_id": str(row["event_id"]),
        "kind": row["kind"],
        "time": row["made_at"],
        **{name: row[name] for name in signed},
    }


def _from_row(row: Row) -> Delivery:
    run = None
    if row["chain"] is not None:
        run = LedgerRun(row["chain"], row["first_sequence"], row["last_sequence"])
    holder = row["holder_id"]
    return Delivery(
        id=DeliveryId(row["id"]),
        endpoint_id=EndpointId(row["endpoint_id"]),
        type=row["type"],
        effect_key=row["effect_key"],
        created_at=row["created_at"],
        next_attempt_at=row["next_attempt_at"],
        body=row["body"],
        run=run,
        holder=None if holder is None else UserId(holder),
        state=row["state"],
        attempts=row["attempts"],
        last_attempt_at=row["last_attempt_at"],
        last_status=row["last_status"],
        last_problem=row["last_problem"],
        settled_at=row["settled_at"],
    )
