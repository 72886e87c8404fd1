"""Delete an account, and have its user forgotten everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.actions.remove_member import leave_for_good
from services.auth.domain.audit import AuditEntry
from services.auth.domain.erasure import Erasure, Receipt
from services.auth.domain.errors import AccountBusy, AccountGone
from services.auth.domain.origin import NOWHERE
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.erasure import ErasureId
from shared.events.user import UserDeleted
from shared.ids import UserId, uuid7


@dataclass(frozen=True, slots=True)
class DeletedAccount:
    """What is left for the person: a receipt, which is shown this once."""

    receipt: Receipt
    erasure: Erasure


@dataclass(frozen=True, slots=True)
class DeleteAccount:
    """Delete the account at once and for good, end whatever was signed in, and tell every service.

    No way back: whoever deletes an account has just proven who they are, and an account that waits
    for a change of mind is one that is still there.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId) -> DeletedAccount:
        """Raises AccountGone, LastOwner or AccountBusy."""
        receipt = Receipt.fresh()
        return DeletedAccount(
            receipt, await self._delete(user_id, receipt.hash, ErasureId(uuid7()))
        )

    async def again(self, erasure: Erasure) -> None:
        """What was deleted before, and came back with a backup: the old receipt stays good.

        Raises AccountGone when it did not come back, LastOwner or AccountBusy.
        """
        await self._delete(erasure.user_id, erasure.receipt_hash, erasure.id)

    async def _delete(self, user_id: UserId, receipt_hash: bytes, id_: ErasureId) -> Erasure:
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
            credentials = await work.erasures.credentials_of(user_id)
            await work.ended_credentials.add(credentials, of=user_id, at=now)
            await work.erasures.delete_account(user)
            await work.users.note_tiers([user_id])
            erasure = Erasure(id_, user.id, receipt_hash, now)
            await work.erasures.add(erasure)
            await work.audit.note(AuditEntry.of_user("account.deleted", user_id, now))
            work.publish(
                UserDeleted(user_id=user_id, erasure_id=erasure.id),
                subject=user_id,
                tier=user.tier,
            )
        return erasure
