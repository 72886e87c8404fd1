"""What the processes tell each other of services' uses of keys, and the stops of services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from services.keyvault.domain.policy import SERVICES
from services.keyvault.domain.service_use import ServiceStop, Standing, Tally
from shared.db.database import Database, Row
from shared.ids import uuid7

# A process that has said nothing for this long is gone.
_SILENT_AFTER = timedelta(seconds=5)
# A user who was seen lately is not written again each second.
_SEEN_LATELY = timedelta(seconds=15)

# The database's clock, since the processes' own may differ.
_USES = """
insert into service_usage (service, process, uses, reported_at)
select service, $1, uses, clock_timestamp()
from unnest($2::text[], $3::int[]) as told (service, uses)
on conflict (service, process) do update set
    uses = excluded.uses, reported_at = excluded.reported_at
"""

# Users in order, so that two processes never wait for each other in a circle.
_USERS = """
insert into service_user (service, user_id, seen_at)
select service, user_id, clock_timestamp()
from unnest($1::text[], $2::uuid[]) as served (service, user_id) order by service, user_id
on conflict (service, user_id) do update set seen_at = excluded.seen_at
where service_user.seen_at < excluded.seen_at - $3::interval
"""

_STANDINGS = """
select told.service, stop.*,
    (select count(*) from service_user u
     where u.service = told.service and u.seen_at >= clock_timestamp() - $2::interval) as users,
    (select coalesce(sum(uses), 0) from service_usage u
     where u.service = told.service and u.process <> $3
         and u.reported_at >= clock_timestamp() - $4::interval) as elsewhere,
    (select count(*) from service_usage u
     where u.service = told.service
         and u.reported_at >= clock_timestamp() - $4::interval) as processes
from unnest($1::text[]) as told (service)
left join lateral (
    select stopped_at, stopped_by, reason from service_stop s
    where s.service = told.service and s.resumed_at is null
) stop on true
order by told.service
"""

_DROP_USERS = "delete from service_user where seen_at < clock_timestamp() - $1::interval"
_DROP_USAGE = "delete from service_usage where reported_at < clock_timestamp() - interval '1 hour'"

_STOP = """
insert into service_stop (id, service, stopped_at, stopped_by, reason)
values ($1, $2, $3, $4, $5)
on conflict (service) where resumed_at is null do nothing
returning id
"""

# The count begins anew, or the service would be stopped again within a second.
_RESUME = """
with resumed as (
    update service_stop set resumed_at = $2, resumed_by = $3
    where service = $1 and resumed_at is null
    returning service
), forgotten as (
    delete from service_user where service in (select service from resumed)
)
select service from resumed
"""

_STOPS = """
select service, stopped_at, stopped_by, reason, resumed_at, resumed_by from service_stop
order by stopped_at desc, id desc limit $1
"""


class SqlServiceUses:
    """Counts and stops; each call is on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, process_id: UUID, tally: Tally, at: datetime) -> None:
        uses = tally.per_second(at)
        served = [(service, user) for service, users in tally.users.items() for user in users]
        async with self._database.connection() as connection:
            await connection.execute(
                _USES, process_id, SERVICES, [uses.get(service, 0) for service in SERVICES]
            )
            if served:
                columns = map(list, zip(*served, strict=True))
                await connection.execute(_USERS, *columns, _SEEN_LATELY)

    async def standings(self, process_id: UUID, *, window: timedelta) -> Sequence[Standing]:
        rows = await self._database.fetch(_STANDINGS, SERVICES, window, process_id, _SILENT_AFTER)
        return [_standing(row) for row in rows]

    async def drop_old(self, *, window: timedelta) -> None:
        async with self._database.connection() as connection:
            await connection.execute(_DROP_USERS, window)
            await connection.execute(_DROP_USAGE)

    async def stop(self, stop: ServiceStop) -> bool:
        row = await self._database.fetchrow(
            _STOP, uuid7(), stop.service, stop.stopped_at, stop.stopped_by, stop.reason
        )
        return row is not None

    async def resume(self, service: str, *, at: datetime, by: str) -> bool:
        return await self._database.fetchrow(_RESUME, service, at, by) is not None

    async def stops(self, *, most: int) -> Sequence[ServiceStop]:
        return [ServiceStop(**row) for row in await self._database.fetch(_STOPS, most)]


def _standing(row: Row) -> Standing:
    stop = None
    if row["stopped_at"] is not None:
        stop = ServiceStop(row["service"], row["stopped_at"], row["stopped_by"], row["reason"])
    return Standing(row["service"], row["users"], row["elsewhere"], row["processes"], stop)
