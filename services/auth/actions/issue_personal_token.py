"""Give a user a token for a tool."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountGone, TooManyPersonalTokens
from services.auth.domain.origin import Origin
from services.auth.domain.personal_token import MOST_LIVE_TOKENS, PersonalToken, TokenText
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class IssuePersonalToken:
    """Make a personal token. Its text is in the answer and nowhere else, then or later."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        user_id: UserId,
        *,
        name: str,
        scopes: Collection[str],
        lifetime: timedelta,
        origin: Origin,
    ) -> tuple[PersonalToken, TokenText]:
        """Raises InvalidTokenName, InvalidTokenLifetime, ScopeNotGrantable, TooManyPersonalTokens
        or AccountGone."""
        now, text = self.clock.now(), TokenText.made()
        async with self.unit_of_work() as work:
            # Held, so that of two requests at once the second counts the first one's token.
            user = await work.users.hold(user_id)
            if user is None:
                raise AccountGone
            token = PersonalToken.issued(
                text, to=user, name=name, scopes=scopes, lifetime=lifetime, at=now
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
                )
            )
        return token, text
