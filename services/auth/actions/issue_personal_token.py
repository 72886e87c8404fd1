"""Give a user a token for a tool."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountGone, TooManyPersonalTokens
from services.auth.domain.origin import Origin
from services.auth.domain.personal_token import MOST_LIVE_TOKENS, PersonalToken, TokenText
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.sign_in import SignIn, SignInId
from services.auth.domain.user import User
from shared.clock import Clock
from shared.errors import SessionEnded
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class IssuePersonalToken:
    """Make a personal token. Its text is in the answer and nowhere else, then or later.

    It may do no more than the sign-in that asks for it. One that is made in a sign-in of a client
    ends when that client is disabled.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        user_id: UserId,
        *,
        within: SignInId,
        name: str,
        scopes: Collection[str],
        lifetime: timedelta,
        origin: Origin,
    ) -> tuple[PersonalToken, TokenText]:
        """Raises InvalidTokenName, InvalidTokenLifetime, ScopeNotGrantable, ScopeNotHeld,
        TooManyPersonalTokens, SessionEnded or AccountGone."""
        now, text = self.clock.now(), TokenText.made()
        async with self.unit_of_work() as work:
            # Held, so that of two requests at once the second counts the first one's token.
            user = await work.users.hold(user_id)
            if user is None:
                raise AccountGone
            token = PersonalToken.issued(
                text,
                to=user,
                within=await self._sign_in(work, user, within),
                name=name,
                scopes=scopes,
                lifetime=lifetime,
                at=now,
            )
            if await work.personal_tokens.count_live(user_id, now) >= MOST_LIVE_TOKENS:
                raise TooManyPersonalTokens(MOST_LIVE_TOKENS)
            await work.personal_tokens.add(token)
            await work.audit.note(
                AuditEntry.of_user(
                    "personal_token.issued",
                    user_id,
                    now,
                    origin,
                    token_id=str(token.id),
                    scopes=sorted(token.scopes),
                    expires_at=token.expires_at.isoformat(),
                    client_id=token.client_id,
                )
            )
        return token, text

    async def _sign_in(self, work: UnitOfWork, user: User, sign_in_id: SignInId) -> SignIn:
        sign_in = await work.sign_ins.get(sign_in_id)
        now = self.clock.now()
        if sign_in is None or not sign_in.belongs_to(user.id) or not sign_in.is_live(now):
            raise SessionEnded
        if sign_in.client_id is not None:
            # Whoever disables the client finds the token, or we find that it is disabled.
            client = await work.oauth_clients.hold(sign_in.client_id)
            if client is None or not client.is_enabled:
                raise SessionEnded
        return sign_in
