"""Show users their personal tokens."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.domain.personal_token import PersonalToken, PersonalTokenId
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListPersonalTokens:
    """The live tokens of a user, the newest first, from the one after `before` on."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, user_id: UserId, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        async with self.unit_of_work() as work:
            now = self.clock.now()
            return await work.personal_tokens.live_of(user_id, now, before=before, most=most)
