"""Delete an account, and have its user forgotten everywhere."""

from __future__ import annotations

from dataclasses import replace

from services.auth.actions.remove_member import leave_for_good, refuse_last_owner
from services.auth.domain.audit import AuditEntry
from services.auth.domain.erasure import Erasure, Receipt
from services.auth.domain.errors import AccountBusy, AccountGone
from services.auth.domain.origin import NOWHERE
from services.auth.domain.ports import ClonedVoices, NewUnitOfWork
from shared.clock import Clock
from shared.erasure import ErasureId
from shared.events.user import UserDeleted
from shared.ids import UserId, uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DeletedAccount:
    """What is left for the person: a receipt, which is shown this once.

    `voices_left`: how many voices that they had made are still in their account at the vendor; None
    where nobody knows.
    """

    receipt: Receipt
    erasure: Erasure
    voices_left: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteAccount:
    """Delete the account at once and for good, end whatever was signed in, and tell every service.

    No way back: whoever deletes an account has just proven who they are, and an account that waits
    for a change of mind is one that is still there.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    voices: ClonedVoices

    async def __call__(self, user_id: UserId, *, access_token: str) -> DeletedAccount:
        """Raises AccountGone, LastOwner or AccountBusy."""
        await self._refuse_what_would_fail(user_id)
        # Before, since afterwards nothing gets at their key any more; whatever comes of it, the
        # account is deleted.
        left = await self.voices.remove_all(user_id, access_token=access_token)
        receipt = Receipt.fresh()
        erasure = await self._delete(user_id, receipt.hash, ErasureId(uuid7()), left)
        return DeletedAccount(receipt, erasure, left)

    async def again(self, erasure: Erasure) -> None:
        """What was deleted before, and came back with a backup: the old receipt stays good.

        Raises AccountGone when it did not come back, LastOwner or AccountBusy.
        """
        await self._delete(erasure.user_id, erasure.receipt_hash, erasure.id)

    async def _refuse_what_would_fail(self, user_id: UserId) -> None:
        """Voices that are gone at their vendor don't come back."""
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
            if user is None:
                raise AccountGone
            await refuse_last_owner(work, user)

    async def _delete(
        self, user_id: UserId, receipt_hash: bytes, id_: ErasureId, voices_left: int | None = 0
    ) -> Erasure:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
            if user is None:
                raise AccountGone
            # No origin, here and below: from where it was done would have to be forgotten too.
            await leave_for_good(work, user, now, NOWHERE)
            await work.erasures.hold_account(user_id)
            user = await work.users.get(user_id)
            if user is None:
                raise AccountGone
            if user.membership is not None:
                # They joined another organisation in this very moment.
                raise AccountBusy
            credentials = await work.erasures.hold_credentials_of(user_id)
            await work.ended_credentials.add(credentials, of=user_id, at=now)
            await work.erasures.delete_account(user)
            await work.users.note_tiers([user_id])
            erasure = Erasure(id_, user.id, receipt_hash, now)
            await work.erasures.add(erasure)
            known = "unknown" if voices_left is None else voices_left
            entry = AuditEntry.of_user("account.deleted", user_id, now)
            await work.audit.note(
                replace(entry, facts={"voices_left": known}) if known != 0 else entry
            )
            work.publish(
                UserDeleted(user_id=user_id, erasure_id=erasure.id),
                subject=user_id,
                tier=user.tier,
            )
        return erasure
