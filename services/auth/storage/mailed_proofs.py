"""Proofs that are on their way by mail."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from services.auth.domain.mailed_proof import MailedProof, ProofPurpose
from services.auth.domain.user import EmailAddress
from shared.db.database import Connection, Row
from shared.ids import UserId

_COLUMNS = "token_hash, purpose, user_id, email, created_at, expires_at"
_VOID = """
update mailed_proof set used_at = $3
where user_id = $1 and purpose = any($2) and used_at is null
"""
_ADD = f"insert into mailed_proof ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6)"  # noqa: S608
_FIND = f"""
select {_COLUMNS} from mailed_proof
where token_hash = $1 and purpose = any($2) and used_at is null and expires_at > $3
"""  # noqa: S608 - constants only
_TAKE = f"""
update mailed_proof set used_at = $3
where token_hash = $1 and purpose = any($2) and used_at is null and expires_at > $3
returning {_COLUMNS}
"""  # noqa: S608
_NEWEST = "select max(created_at) as at from mailed_proof where user_id = $1 and purpose = $2"
_PENDING_ADDRESS = """
select email from mailed_proof
where user_id = $1 and purpose = 'change_email' and used_at is null and expires_at > $2
order by created_at desc limit 1
"""
_FORGET_BEFORE = """
delete from mailed_proof where token_hash in (
    select token_hash from mailed_proof where expires_at < $1 limit $2 for update skip locked
) returning purpose
"""


class SqlMailedProofs:
    """The repository of proofs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, proof: MailedProof) -> None:
        await self.void(proof.user_id, {proof.purpose}, proof.created_at)
        await self._connection.execute(
            _ADD,
            proof.token_hash,
            proof.purpose.value,
            proof.user_id,
            proof.email.text,
            proof.created_at,
            proof.expires_at,
        )

    async def pending_address(self, user_id: UserId, at: datetime) -> EmailAddress | None:
        row = await self._connection.fetchrow(_PENDING_ADDRESS, user_id, at)
        return EmailAddress(row["email"]) if row else None

    async def find(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        return _from_row(
            await self._connection.fetchrow(_FIND, token_hash, [p.value for p in purposes], at)
        )

    async def take(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        return _from_row(
            await self._connection.fetchrow(_TAKE, token_hash, [p.value for p in purposes], at)
        )

    async def void(self, user_id: UserId, purposes: Collection[ProofPurpose], at: datetime) -> None:
        await self._connection.execute(_VOID, user_id, [p.value for p in purposes], at)

    async def newest_at(self, user_id: UserId, purpose: ProofPurpose) -> datetime | None:
        row = await self._connection.fetchrow(_NEWEST, user_id, purpose.value)
        newest: datetime | None = row["at"] if row else None
        return newest

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_BEFORE, at, most))


def _from_row(row: Row | None) -> MailedProof | None:
    if row is None:
        return None
    return MailedProof(
        token_hash=row["token_hash"],
        purpose=ProofPurpose(row["purpose"]),
        user_id=UserId(row["user_id"]),
        email=EmailAddress(row["email"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )
