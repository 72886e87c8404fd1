"""Personal tokens kept in memory, and builders of some."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.auth.domain.personal_token import (
    PersonalToken,
    PersonalTokenId,
    PresentedToken,
    TokenText,
)
from services.auth.domain.sign_in import PASSWORD, Proof, SignIn, SignInLifetimes
from services.auth.domain.user import User
from shared.ids import UserId

if TYPE_CHECKING:
    from tests.support.auth import Memory


def a_personal_token(
    owner: User,
    *,
    at: datetime,
    scopes: Collection[str] = ("chat",),
    lifetime: timedelta = timedelta(days=30),
    name: str = "an editor",
    within: SignIn | None = None,
) -> tuple[PersonalToken, TokenText]:
    """A new token of the owner, and its text; made in a sign-in of our own unless `within`."""
    text = TokenText.made()
    return PersonalToken.issued(
        text,
        to=owner,
        within=within or _our_own(owner, at),
        name=name,
        scopes=scopes,
        lifetime=lifetime,
        at=at,
    ), text


def _our_own(owner: User, at: datetime) -> SignIn:
    day = timedelta(days=1)
    return SignIn.begun(
        owner.id,
        device="a browser",
        pepper_version=1,
        proof=Proof(at, frozenset({PASSWORD})),
        at=at,
        lifetimes=SignInLifetimes(day, day, day),
    )


class MemoryPersonalTokens:
    """Both the repository and what each use asks."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.noted: list[datetime] = []

    async def get(self, token_id: PersonalTokenId) -> PersonalToken | None:
        return self._memory.personal_tokens.get(token_id)

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        live = [
            token
            for token in self._memory.personal_tokens.values()
            if token.belongs_to(user_id)
            and token.is_live(at)
            and (before is None or token.id < before)
        ]
        return sorted(live, key=lambda token: token.id, reverse=True)[:most]

    async def kept_of(
        self, user_id: UserId, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        kept = [
            token
            for token in self._memory.personal_tokens.values()
            if token.belongs_to(user_id) and (before is None or token.id < before)
        ]
        return sorted(kept, key=lambda token: token.id, reverse=True)[:most]

    async def hold_live_of(
        self, user_id: UserId, at: datetime, *, most: int
    ) -> Sequence[PersonalToken]:
        return await self.live_of(user_id, at, before=None, most=most)

    async def count_live(self, user_id: UserId, at: datetime) -> int:
        return len(await self.live_of(user_id, at, before=None, most=1000))

    async def add(self, token: PersonalToken) -> None:
        self._memory.personal_tokens[token.id] = token

    async def revoke(self, token_id: PersonalTokenId, at: datetime) -> None:
        token = self._memory.personal_tokens[token_id]
        self._memory.personal_tokens[token_id] = replace(token, revoked_at=at)

    async def revoke_all_of_client(self, client_id: str, at: datetime) -> int:
        live = [
            token.id
            for token in self._memory.personal_tokens.values()
            if token.client_id == client_id and token.is_live(at)
        ]
        for token_id in live:
            await self.revoke(token_id, at)
            self._memory.ended[token_id] = at
        return len(live)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        over = [
            token.id
            for token in self._memory.personal_tokens.values()
            if min(token.revoked_at or token.expires_at, token.expires_at) < at
        ][:most]
        for token_id in over:
            del self._memory.personal_tokens[token_id]
        return len(over)

    async def by_hash(self, token_hash: bytes) -> PresentedToken | None:
        for token in self._memory.personal_tokens.values():
            if token.token_hash == token_hash:
                return PresentedToken(token, self._memory.accounts[token.user_id])
        return None

    async def note_use(self, token_id: PersonalTokenId, at: datetime) -> None:
        self.noted.append(at)
        token = self._memory.personal_tokens[token_id]
        self._memory.personal_tokens[token_id] = replace(token, last_used_at=at)
