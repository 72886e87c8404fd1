"""Where personal tokens are kept, and the clients and codes of OAuth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.auth.domain.authorization import AuthorizationCode
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.personal_token import PersonalToken, PersonalTokenId, PresentedToken
from shared.ids import UserId


class PersonalTokens(Protocol):
    """Personal tokens, including those that are over but not yet forgotten."""

    async def get(self, token_id: PersonalTokenId) -> PersonalToken | None:
        """The token, which nobody else changes until this unit of work ends."""
        ...

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        """The newest first, from the one after `before` on."""
        ...

    async def kept_of(
        self, user_id: UserId, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        """Those that are over as well, likewise."""
        ...

    async def hold_live_of(
        self, user_id: UserId, at: datetime, *, most: int
    ) -> Sequence[PersonalToken]:
        """Some of them, which nobody else changes until this unit of work ends."""
        ...

    async def count_live(self, user_id: UserId, at: datetime) -> int: ...

    async def add(self, token: PersonalToken) -> None: ...

    async def revoke(self, token_id: PersonalTokenId, at: datetime) -> None: ...

    async def revoke_all_of_client(self, client_id: str, at: datetime) -> int:
        """Those that were made in sign-ins of the client; answers how many were still live.
        Everybody is told once this is committed."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that were over by then; answers how many."""
        ...


class PresentedTokens(Protocol):
    """Personal tokens as they are used: outside a unit of work, since each request asks."""

    async def by_hash(self, token_hash: bytes) -> PresentedToken | None: ...

    async def note_use(self, token_id: PersonalTokenId, at: datetime) -> None: ...


class OAuthClients(Protocol):
    """The clients that an operator has registered."""

    async def get(self, client_id: str) -> OAuthClient | None: ...

    async def hold(self, client_id: str) -> OAuthClient | None:
        """The client, which nobody disables until this unit of work ends."""
        ...

    async def all(self) -> Sequence[OAuthClient]:
        """The oldest first."""
        ...

    async def add(self, client: OAuthClient) -> None: ...

    async def disable(self, client: OAuthClient) -> None: ...


class AuthorizationCodes(Protocol):
    """Codes, used ones too for as long as a second use is worth noticing."""

    async def add(self, code: AuthorizationCode) -> None: ...

    async def get(self, code_hash: bytes) -> AuthorizationCode | None: ...

    async def hold(self, code_hash: bytes) -> AuthorizationCode | None:
        """The code, which nobody else uses until this unit of work ends."""
        ...

    async def use(self, used: AuthorizationCode) -> None: ...

    async def void(self, user_id: UserId, at: datetime) -> None:
        """Let none of the user's codes begin a sign-in. `sign_ins.end_all_of` does this by
        itself."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that had expired by then; answers how many."""
        ...
