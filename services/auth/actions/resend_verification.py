"""Send the proof of an address again."""

from __future__ import annotations

from datetime import timedelta

from services.auth.domain.errors import AccountGone
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ResendVerification:
    """Another proof to the address of the account, unless it has one or was sent one just now."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId) -> None:
        """Raises AccountGone."""
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
            if user is None:
                raise AccountGone
            if not user.email_verified:
                mail = Mail.with_proof(
                    MailKind.VERIFY_EMAIL, user, self.clock.now(), not_within=_PAUSE
                )
                await work.mails.add(mail, to=user)
