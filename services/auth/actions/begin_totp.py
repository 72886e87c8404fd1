"""Begin to set up an authenticator."""

from __future__ import annotations

from services.auth.domain.errors import AccountGone, TotpActive
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.second_factor import Totp
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class BegunTotp:
    """What the authenticator needs to know; shown once."""

    totp: Totp
    uri: str


@dataclass(frozen=True, slots=True)
class BeginTotp:
    """Make a secret. It protects nothing until a code proves that the authenticator has it."""

    unit_of_work: NewUnitOfWork
    issuer: str
    clock: Clock

    async def __call__(self, user_id: UserId) -> BegunTotp:
        """Raises TotpActive or AccountGone."""
        totp = Totp.begun(user_id, self.clock.now())
        async with self.unit_of_work() as work:
            user = await work.users.hold(user_id)
            if user is None:
                raise AccountGone
            if not await work.second_factors.begin(totp):
                raise TotpActive
        return BegunTotp(totp, totp.uri(account=user.email.text, issuer=self.issuer))
