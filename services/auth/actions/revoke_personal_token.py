"""End a personal token."""

from __future__ import annotations

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import PersonalTokenNotFound
from services.auth.domain.origin import Origin
from services.auth.domain.personal_token import PersonalTokenId
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RevokePersonalToken:
    """End a token for good: its next use is refused, and so is what stood for it lately."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, token_id: PersonalTokenId, *, by: UserId, origin: Origin) -> None:
        """Raises PersonalTokenNotFound, for another user's and for one that is over too."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            token = await work.personal_tokens.get(token_id)
            if token is None or not token.belongs_to(by) or not token.is_live(now):
                raise PersonalTokenNotFound(token_id)
            await work.personal_tokens.revoke(token_id, now)
            await work.ended_credentials.add([token_id], of=by, at=now)
            await work.audit.note(
                AuditEntry.of_user(
                    "personal_token.revoked", by, now, origin, token_id=str(token_id)
                )
            )
