"""In-memory ports and builders for OAuth clients and their codes."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from services.auth.domain.authorization import Asked, AuthorizationCode
from services.auth.domain.oauth_client import OAuthClient
from shared.ids import UserId

if TYPE_CHECKING:
    from tests.support.auth import Memory

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CALLBACK = "https://abcdefghijklmnop.chromiumapp.org/cb"


def challenge_of(verifier: str = VERIFIER) -> str:
    """The S256 challenge of a verifier (RFC 7636)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def request_of(client_id: str, /, **parts: str | None) -> dict[str, str]:
    """The parameters of a good request; `parts` replace, None leaves out."""
    values: dict[str, str | None] = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": CALLBACK,
        "code_challenge": challenge_of(),
        "code_challenge_method": "S256",
        "state": "a state",
        **parts,
    }
    return {name: value for name, value in values.items() if value is not None}


def asked(client_id: str, /, **parts: str | None) -> Asked:
    """A good request, as the door hands it on."""
    return Asked.of(request_of(client_id, **parts).items())


class MemoryOAuthClients:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(self, client_id: str) -> OAuthClient | None:
        return self._memory.oauth_clients.get(client_id)

    async def hold(self, client_id: str) -> OAuthClient | None:
        return await self.get(client_id)

    async def all(self) -> Sequence[OAuthClient]:
        return list(self._memory.oauth_clients.values())

    async def add(self, client: OAuthClient) -> None:
        self._memory.oauth_clients[client.client_id] = client

    async def disable(self, client: OAuthClient) -> None:
        self._memory.oauth_clients[client.client_id] = client


class MemoryAuthorizationCodes:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def add(self, code: AuthorizationCode) -> None:
        self._memory.codes[code.code_hash] = code

    async def get(self, code_hash: bytes) -> AuthorizationCode | None:
        return self._memory.codes.get(code_hash)

    async def hold(self, code_hash: bytes) -> AuthorizationCode | None:
        return await self.get(code_hash)

    async def use(self, used: AuthorizationCode) -> None:
        self._memory.codes[used.code_hash] = used

    async def void(self, user_id: UserId, at: datetime) -> None:
        for code in list(self._memory.codes.values()):
            if code.user_id == user_id and code.used_at is None:
                await self.use(code.used(at, None))

    async def forget_before(self, at: datetime, *, most: int) -> int:
        over = [h for h, code in self._memory.codes.items() if code.expires_at < at][:most]
        for code_hash in over:
            del self._memory.codes[code_hash]
        return len(over)
