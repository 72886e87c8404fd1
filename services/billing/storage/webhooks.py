"""Webhooks: their endpoints, and who is told of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.billing.domain.webhook import (
    USAGE,
    Endpoint,
    EndpointId,
    EndpointOwner,
    message_body,
    new_delivery_id,
)
from shared.db.database import Connection, Row
from shared.ids import UserId

# Held until the work ends: an endpoint that is dropped meanwhile would fail it.
_WHO_IS_TOLD = """
select id from webhook_endpoint
where (owner_id = $1 or owner_id is null) and disabled_at is null
  and (types = '{}' or $2 = any(types))
order by id for key share
"""
_TELL = """
insert into webhook_delivery
    (id, endpoint_id, holder_id, type, effect_key, body, created_at, state, next_attempt_at)
select id, endpoint_id, $3, $4, $5, $6, $7, 'waiting', $7
from unnest($1::uuid[], $2::uuid[]) as told (id, endpoint_id)
on conflict (endpoint_id, effect_key) do nothing
"""

_TAKE_TURN = "select pg_advisory_xact_lock(4246, hashtext($1))"
_COLUMNS = (
    "id, owner_kind, owner_id, url, types, secret, created_by, created_at, old_secret,"
    " old_secret_until, disabled_at, disabled_because, failures, failing_since, paused_until"
)
_ADD = f"""
insert into webhook_endpoint ({_COLUMNS})
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""  # noqa: S608 - made of the names above
# Without a row a chain is told from its first link on. Where there is any, or something that was to
# be told, the endpoint had usage before: it goes on from there, in chains that began since, too.
_BEGIN_NOW = """
insert into webhook_usage_cursor (endpoint_id, chain, sequence)
select $1, chain, max(last_sequence) from ledger_link
where not exists (select 1 from webhook_usage_cursor where endpoint_id = $1)
  and not exists (select 1 from webhook_delivery where endpoint_id = $1 and chain is not null)
group by chain
"""
_GET = "select * from webhook_endpoint where id = $1"
# Not in the way of those who only tell it something.
_HOLD = "select * from webhook_endpoint where id = $1 for no key update"
_OF = """
select * from webhook_endpoint
where owner_kind = $1 and owner_id is not distinct from $2 order by id
"""
_SAVE = """
update webhook_endpoint set
    url = $2, types = $3, secret = $4, old_secret = $5, old_secret_until = $6, disabled_at = $7,
    disabled_because = $8, failures = $9, failing_since = $10, paused_until = $11
where id = $1
"""
_DELETE = "delete from webhook_endpoint where id = $1"

_FORGET = (
    "delete from webhook_endpoint where owner_id = $1",
    """delete from webhook_delivery
    where holder_id = $1 and state <> 'delivered' and type in ('limit.reached', 'spend.reached')""",
    "delete from spend_threshold where user_id = $1",
    "delete from spend_alert where user_id = $1",
)


class SqlWebhooks:
    """Endpoints on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def tell(
        self, holder: UserId, type_: str, data: Mapping[str, Any], *, effect_key: str
    ) -> None:
        rows = await self._connection.fetch(_WHO_IS_TOLD, holder, type_)
        if not rows:
            return
        now = datetime.now(UTC)
        await self._connection.execute(
            _TELL,
            [new_delivery_id() for _ in rows],
            [row["id"] for row in rows],
            holder,
            type_,
            effect_key,
            message_body(type_, now, data),
            now,
        )

    async def take_turn(self, owner: EndpointOwner) -> None:
        await self._connection.execute(_TAKE_TURN, f"{owner.kind}/{owner.id}")

    async def add(self, endpoint: Endpoint, *, usage_from_beginning: bool) -> None:
        await self._connection.execute(_ADD, *_values(endpoint))
        if USAGE in endpoint.types and not usage_from_beginning:
            await self.begin_usage(endpoint.id)

    async def begin_usage(self, endpoint_id: EndpointId) -> None:
        await self._connection.execute(_BEGIN_NOW, endpoint_id)

    async def get(self, endpoint_id: EndpointId) -> Endpoint | None:
        row = await self._connection.fetchrow(_GET, endpoint_id)
        return endpoint_of(row) if row else None

    async def hold(self, endpoint_id: EndpointId) -> Endpoint | None:
        row = await self._connection.fetchrow(_HOLD, endpoint_id)
        return endpoint_of(row) if row else None

    async def of(self, owner: EndpointOwner) -> Sequence[Endpoint]:
        rows = await self._connection.fetch(_OF, owner.kind, owner.id)
        return [endpoint_of(row) for row in rows]

    async def save(self, endpoint: Endpoint) -> None:
        await self._connection.execute(
            _SAVE,
            endpoint.id,
            endpoint.url,
            list(endpoint.types),
            endpoint.secret,
            endpoint.old_secret,
            endpoint.old_secret_until,
            endpoint.disabled_at,
            endpoint.disabled_because,
            endpoint.failures,
            endpoint.failing_since,
            endpoint.paused_until,
        )

    async def delete(self, endpoint_id: EndpointId) -> None:
        await self._connection.execute(_DELETE, endpoint_id)

    async def forget(self, holder: UserId) -> None:
        for statement in _FORGET:
            await self._connection.execute(statement, holder)


def _values(endpoint: Endpoint) -> tuple[Any, ...]:
    return (
        endpoint.id,
        endpoint.owner.kind,
        endpoint.owner.id,
        endpoint.url,
        list(endpoint.types),
        endpoint.secret,
        endpoint.created_by,
        endpoint.created_at,
        endpoint.old_secret,
        endpoint.old_secret_until,
        endpoint.disabled_at,
        endpoint.disabled_because,
        endpoint.failures,
        endpoint.failing_since,
        endpoint.paused_until,
    )


def endpoint_of(row: Row) -> Endpoint:
    """An endpoint out of its row."""
    owner_id = row["owner_id"]
    return Endpoint(
        id=EndpointId(row["id"]),
        owner=EndpointOwner(row["owner_kind"], None if owner_id is None else UserId(owner_id)),
        url=row["url"],
        types=tuple(row["types"]),
        secret=row["secret"],
        created_by=UserId(row["created_by"]),
        created_at=row["created_at"],
        old_secret=row["old_secret"],
        old_secret_until=row["old_secret_until"],
        disabled_at=row["disabled_at"],
        disabled_because=row["disabled_because"],
        failures=row["failures"],
        failing_since=row["failing_since"],
        paused_until=row["paused_until"],
    )
