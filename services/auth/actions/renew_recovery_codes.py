"""Hand out new recovery codes."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountGone, TotpNotActive
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.second_factor import RecoveryCode, new_recovery_codes
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


async def replace_recovery_codes(work: UnitOfWork, user_id: UserId) -> Sequence[RecoveryCode]:
    """Ten new ones; the old ones are good for nothing any more."""
    codes = new_recovery_codes()
    await work.second_factors.replace_recovery_codes(
        user_id, [code.hash_for(user_id) for code in codes]
    )
    return codes


@dataclass(frozen=True, slots=True)
class RenewRecoveryCodes:
    """Replace the recovery codes of somebody who has an authenticator."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId, origin: Origin) -> Sequence[RecoveryCode]:
        """Raises TotpNotActive or AccountGone."""
        async with self.unit_of_work() as work:
            user = await work.users.hold(user_id)
            if user is None:
                raise AccountGone
            if not user.has_second_factor:
                raise TotpNotActive
            codes = await replace_recovery_codes(work, user_id)
            await work.audit.note(
                AuditEntry.of_user("recovery_codes.renewed", user_id, self.clock.now(), origin)
            )
        return codes
