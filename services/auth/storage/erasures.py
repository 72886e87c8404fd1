"""Erasures in the database, and the account that goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.auth.domain.erasure import Erasure
from services.auth.domain.user import User
from shared.db.database import Connection, Row
from shared.erasure import ErasureId
from shared.ids import UserId

_ADD = """
insert into erasure (id, user_id, receipt_hash, requested_at) values ($1, $2, $3, $4)
"""
_ERASURE = """
select e.id, e.user_id, e.receipt_hash, e.requested_at, e.completed_at,
    array(select service from erasure_acknowledgement where erasure_id = e.id
          order by service) as services,
    array(select forgotten_at from erasure_acknowledgement where erasure_id = e.id
          order by service) as times
from erasure e
"""
_FIND = f"{_ERASURE} where e.receipt_hash = $1"
# Locked by a statement of its own: what is read after it holds what others have written before.
_LOCK = "select 1 from erasure where id = $1 for update"
_GET = f"{_ERASURE} where e.id = $1"
_UNFINISHED = f"""
{_ERASURE} where e.completed_at is null and e.requested_at >= $1 and e.requested_at < $2
order by e.requested_at limit $3
"""
_LATEST = f"{_ERASURE} order by e.requested_at desc limit $1"
_SAVE = "update erasure set completed_at = $2 where id = $1"
_ACKNOWLEDGE = """
insert into erasure_acknowledgement (erasure_id, service, forgotten_at)
select $1, * from unnest($2::text[], $3::timestamptz[])
on conflict do nothing
"""
_FORGET_BEFORE = """
delete from erasure where id in (
    select id from erasure where completed_at < $1 limit $2 for update skip locked
) returning id
"""

# Stronger than a change needs: from now on nobody begins a sign-in of this account.
_HOLD_ACCOUNT = "select 1 from user_account where id = $1 for update"
# In the order in which others have them who end many of them. Whoever ends a single one has it
# before they write that it has ended, and so do we.
_HOLD_CODES = """
select 1 from authorization_code where user_id = $1 and used_at is null
order by code_hash for update
"""
_HOLD_CREDENTIALS = (
    """
    select id from sign_in where user_id = $1 and ended_at is null
    order by id for update
    """,
    """
    select id from personal_token where user_id = $1 and revoked_at is null
    order by id for update
    """,
)
# Anybody may have claimed an address that is not theirs; mails to it are then not theirs to drop.
_MAILS = "delete from outgoing_mail where recipient = $1"
_INVITATIONS = "delete from invitation where email = $1"
# Accepted at an address that the user has changed since; and what the user sent, void since they
# left.
_OWN_INVITATIONS = "delete from invitation where accepted_by = $1 or invited_by = $1"
_ACCOUNT = "delete from user_account where id = $1"


class SqlErasures:
    """The repository of erasures."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def hold_account(self, user_id: UserId) -> None:
        await self._connection.fetchrow(_HOLD_ACCOUNT, user_id)

    async def hold_credentials_of(self, user_id: UserId) -> Sequence[UUID]:
        await self._connection.execute(_HOLD_CODES, user_id)
        held = [await self._connection.fetch(each, user_id) for each in _HOLD_CREDENTIALS]
        return [row["id"] for rows in held for row in rows]

    async def delete_account(self, user: User) -> None:
        if user.email_verified:
            for statement in (_MAILS, _INVITATIONS):
                await self._connection.execute(statement, user.email.text)
        await self._connection.execute(_OWN_INVITATIONS, user.id)
        await self._connection.execute(_ACCOUNT, user.id)

    async def add(self, erasure: Erasure) -> None:
        await self._connection.execute(
            _ADD, erasure.id, erasure.user_id, erasure.receipt_hash, erasure.requested_at
        )

    async def find(self, receipt_hash: bytes) -> Erasure | None:
        row = await self._connection.fetchrow(_FIND, receipt_hash)
        return _from_row(row) if row else None

    async def hold(self, erasure_id: ErasureId) -> Erasure | None:
        await self._connection.fetchrow(_LOCK, erasure_id)
        row = await self._connection.fetchrow(_GET, erasure_id)
        return _from_row(row) if row else None

    async def save(self, erasure: Erasure) -> None:
        await self._connection.execute(
            _ACKNOWLEDGE,
            erasure.id,
            list(erasure.forgotten),
            list(erasure.forgotten.values()),
        )
        await self._connection.execute(_SAVE, erasure.id, erasure.completed_at)

    async def unfinished(
        self, since: datetime, before: datetime, *, most: int
    ) -> Sequence[Erasure]:
        rows = await self._connection.fetch(_UNFINISHED, since, before, most)
        return [_from_row(row) for row in rows]

    async def latest(self, *, most: int) -> Sequence[Erasure]:
        return [_from_row(row) for row in await self._connection.fetch(_LATEST, most)]

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_BEFORE, at, most))


def _from_row(row: Row) -> Erasure:
    return Erasure(
        id=ErasureId(row["id"]),
        user_id=UserId(row["user_id"]),
        receipt_hash=row["receipt_hash"],
        requested_at=row["requested_at"],
        completed_at=row["completed_at"],
        forgotten=dict(zip(row["services"], row["times"], strict=True)),
    )
