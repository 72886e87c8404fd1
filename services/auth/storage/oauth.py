"""Clients and their codes in the database: a code's hash, never itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.auth.domain.authorization import AuthorizationCode
from services.auth.domain.oauth_client import OAuthClient, RedirectUri
from services.auth.domain.pkce import CodeChallenge
from services.auth.domain.sign_in import Proof
from shared.db.database import Connection, Row
from shared.ids import UserId

_CLIENT = "client_id, name, redirect_uris, created_at, disabled_at"
_GET = f"select {_CLIENT} from oauth_client where client_id = $1"  # noqa: S608 - constants only
# Shared: only whoever disables the client waits.
_HOLD = f"{_GET} for share"
_ALL = f"select {_CLIENT} from oauth_client order by created_at, client_id"  # noqa: S608
_ADD = f"insert into oauth_client ({_CLIENT}) values ($1, $2, $3, $4, $5)"  # noqa: S608
_DISABLE = "update oauth_client set disabled_at = $2 where client_id = $1"

_CODE = (
    "code_hash, client_id, user_id, redirect_uri, code_challenge, scopes, authenticated_at,"
    " methods, created_at, expires_at, used_at, sign_in_id"
)
_ADD_CODE = f"""
insert into authorization_code ({_CODE})
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""  # noqa: S608
_GET_CODE = f"select {_CODE} from authorization_code where code_hash = $1"  # noqa: S608
# Of uses at the same moment the second waits here, and then sees what the first has left.
_HOLD_CODE = f"{_GET_CODE} for update"
_USE_CODE = "update authorization_code set used_at = $2, sign_in_id = $3 where code_hash = $1"
_VOID_CODES = """
with held as (
    select code_hash from authorization_code where user_id = $1 and used_at is null
    order by code_hash for no key update
)
update authorization_code c set used_at = $2 from held where c.code_hash = held.code_hash
"""
_FORGET_CODES = """
delete from authorization_code where code_hash in (
    select code_hash from authorization_code where expires_at < $1 limit $2
    for update skip locked
) returning expires_at
"""


class SqlOAuthClients:
    """The repository of clients."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, client_id: str) -> OAuthClient | None:
        row = await self._connection.fetchrow(_GET, client_id)
        return client_from_row(row) if row else None

    async def hold(self, client_id: str) -> OAuthClient | None:
        row = await self._connection.fetchrow(_HOLD, client_id)
        return client_from_row(row) if row else None

    async def all(self) -> Sequence[OAuthClient]:
        return [client_from_row(row) for row in await self._connection.fetch(_ALL)]

    async def add(self, client: OAuthClient) -> None:
        uris = [uri.text for uri in client.redirect_uris]
        await self._connection.execute(
            _ADD, client.client_id, client.name, uris, client.created_at, client.disabled_at
        )

    async def disable(self, client: OAuthClient) -> None:
        await self._connection.execute(_DISABLE, client.client_id, client.disabled_at)


class SqlAuthorizationCodes:
    """The repository of codes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, code: AuthorizationCode) -> None:
        await self._connection.execute(_ADD_CODE, *code_to_row(code))

    async def get(self, code_hash: bytes) -> AuthorizationCode | None:
        row = await self._connection.fetchrow(_GET_CODE, code_hash)
        return code_from_row(row) if row else None

    async def hold(self, code_hash: bytes) -> AuthorizationCode | None:
        row = await self._connection.fetchrow(_HOLD_CODE, code_hash)
        return code_from_row(row) if row else None

    async def use(self, used: AuthorizationCode) -> None:
        await self._connection.execute(_USE_CODE, used.code_hash, used.used_at, used.sign_in_id)

    async def void(self, user_id: UserId, at: datetime) -> None:
        await self._connection.execute(_VOID_CODES, user_id, at)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return len(await self._connection.fetch(_FORGET_CODES, at, most))


def client_from_row(row: Row) -> OAuthClient:
    """A client as the domain knows it."""
    return OAuthClient(
        client_id=row["client_id"],
        name=row["name"],
        # Checked when they were registered; a stricter rule of today must not hide a client.
        redirect_uris=tuple(RedirectUri(uri) for uri in row["redirect_uris"]),
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
    )


def code_from_row(row: Row) -> AuthorizationCode:
    """A code as the domain knows it."""
    return AuthorizationCode(
        code_hash=row["code_hash"],
        client_id=row["client_id"],
        user_id=UserId(row["user_id"]),
        redirect_uri=row["redirect_uri"],
        challenge=CodeChallenge(row["code_challenge"]),
        scopes=None if row["scopes"] is None else frozenset(row["scopes"]),
        proof=Proof(row["authenticated_at"], frozenset(row["methods"])),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
        sign_in_id=row["sign_in_id"],
    )


def code_to_row(code: AuthorizationCode) -> tuple[Any, ...]:
    """The values of `_CODE`."""
    return (
        code.code_hash,
        code.client_id,
        code.user_id,
        code.redirect_uri,
        code.challenge.text,
        None if code.scopes is None else sorted(code.scopes),
        code.proof.at,
        sorted(code.proof.methods),
        code.created_at,
        code.expires_at,
        code.used_at,
        code.sign_in_id,
    )
