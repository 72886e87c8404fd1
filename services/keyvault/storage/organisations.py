"""What is known of organisations in PostgreSQL: their members' seats, and which are gone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.keyvault.domain.organisation import SeatNews
from shared.db.database import Connection
from shared.ids import UserId

# Rows in order, so that two batches never wait for each other in a circle.
_NOTE_SEATS = """
insert into seat (user_id, organisation_id, is_taken, at)
select distinct on (user_id, organisation_id) user_id, organisation_id, is_taken, at
from unnest($1::uuid[], $2::uuid[], $3::bool[], $4::timestamptz[])
     as n (user_id, organisation_id, is_taken, at)
order by user_id, organisation_id, at desc, is_taken
on conflict (user_id, organisation_id) do update set
    is_taken = excluded.is_taken, at = excluded.at
where seat.at < excluded.at
"""
_DROP_SEATS = "delete from seat where at < $1"
_FORGET = "delete from seat where user_id = $1"
_END = "insert into ended_organisation (organisation_id, at) values ($1, $2) on conflict do nothing"
_HAS_ENDED = "select exists (select from ended_organisation where organisation_id = $1)"


class SqlOrganisations:
    """Organisations, seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def note_seats(self, news: Sequence[SeatNews]) -> None:
        await self._connection.execute(
            _NOTE_SEATS,
            [told.user_id for told in news],
            [told.organisation_id for told in news],
            [told.is_taken for told in news],
            [told.at for told in news],
        )

    async def drop_seats(self, *, before: datetime) -> None:
        await self._connection.execute(_DROP_SEATS, before)

    async def forget(self, user_id: UserId) -> None:
        await self._connection.execute(_FORGET, user_id)

    async def end(self, organisation_id: UUID, at: datetime) -> None:
        await self._connection.execute(_END, organisation_id, at)

    async def has_ended(self, organisation_id: UUID) -> bool:
        return bool(await self._connection.fetchval(_HAS_ENDED, organisation_id))
