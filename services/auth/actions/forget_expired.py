"""Delete what nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from services.auth.domain.erasure import Erasure, Receipt
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.sign_in import ACCESS_OUTLIVES_SESSION
from shared.clock import Clock
from shared.erasure import ErasureId
from shared.events.user import UserDeleted
from shared.ids import UserId, uuid7
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass

_BATCH = 5_000
_ACCOUNTS_BATCH = 200
# So that an owner who asks what happened on their account last month can still be told.
_SIGN_INS_KEPT = timedelta(days=30)
# Accounts whose address nobody has proven, and to which nobody has signed in.
_UNPROVEN_KEPT = timedelta(days=7)
_PERSONAL_TOKENS_KEPT = timedelta(days=30)
# For so long a second use of a code is noticed, and ends the sign-in that the first has begun.
_CODES_KEPT = timedelta(days=1)

# So that whoever has a receipt can ask for a year.
_ERASURES_KEPT = timedelta(days=365)
# From where somebody acted; that they did stays.
_ORIGINS_KEPT = timedelta(days=365)


class _Forgetful(Protocol):
    async def forget_before(self, at: datetime, *, most: int) -> int: ...


@dataclass(frozen=True, slots=True)
class ForgetExpired:
    """Delete sign-ins that are long over and old counts of failures, in pieces."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> None:
        now = self.clock.now()
        await self._forget(lambda work: work.sign_ins, now - _SIGN_INS_KEPT)
        await self._forget(lambda work: work.personal_tokens, now - _PERSONAL_TOKENS_KEPT)
        await self._forget(lambda work: work.authorization_codes, now - _CODES_KEPT)
        await self._forget(lambda work: work.login_failures, now)
        await self._forget(lambda work: work.mailed_proofs, now)
        await self._forget_unproven(now - _UNPROVEN_KEPT)
        await self._forget(lambda work: work.invitations, now)
        await self._forget(lambda work: work.erasures, now - _ERASURES_KEPT)
        await self._forget(lambda work: work.ended_credentials, now - ACCESS_OUTLIVES_SESSION)
        await self._forget(lambda work: work.audit, now - _ORIGINS_KEPT)

    async def _forget(self, kept: Callable[[UnitOfWork], _Forgetful], before: datetime) -> None:
        forgotten = _BATCH
        while forgotten == _BATCH:
            async with self.unit_of_work() as work:
                forgotten = await kept(work).forget_before(before, most=_BATCH)

    async def _forget_unproven(self, before: datetime) -> None:
        """Nobody ever had a token of them, but other services have heard that they exist."""
        forgotten = _ACCOUNTS_BATCH
        while forgotten == _ACCOUNTS_BATCH:
            async with self.unit_of_work() as work:
                gone = await work.users.forget_unproven_before(before, most=_ACCOUNTS_BATCH)
                for user_id in gone:
                    await self._have_forgotten(work, user_id)
            forgotten = len(gone)

    async def _have_forgotten(self, work: UnitOfWork, user_id: UserId) -> None:
        # Nobody gets the receipt: whoever opened the account has never come back.
        receipt = Receipt.fresh()
        erasure = Erasure(ErasureId(uuid7()), user_id, receipt.hash, self.clock.now())
        await work.erasures.add(erasure)
        event = UserDeleted(user_id=user_id, erasure_id=erasure.id)
        work.publish(event, subject=user_id, tier=DEFAULT_TIER.name)
