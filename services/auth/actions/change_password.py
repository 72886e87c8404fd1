"""Replace a password."""

from __future__ import annotations

from services.auth.actions._limit_guesses import check_late
from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.domain.attempts import failures_at_password_change
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import WrongPassword
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mailed_proof import OPEN_THE_ACCOUNT
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.ports import NewUnitOfWork, PasswordRules, UnitOfWork
from services.auth.domain.sign_in import EndReason, SignInId
from services.auth.domain.user import User
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Replace the password and end every sign-in but the one that asks."""

    unit_of_work: NewUnitOfWork
    confirm: ConfirmPassword
    rules: PasswordRules

    async def __call__(
        self,
        user_id: UserId,
        *,
        current: Password,
        new: Password,
        keep: SignInId,
        origin: Origin,
    ) -> None:
        """Raises WrongPassword, PasswordRefused, TooManyAttempts, PasswordsBusy or AccountGone."""
        user = await self.confirm(user_id, current, origin)
        await self.rules.check(new, email=user.email, username=user.username, origin=origin)
        hash_ = await self.confirm.passwords.hash(new, origin)
        async with self.unit_of_work() as work:
            await self._replace(work, user, hash_, keep, origin)

    async def _replace(
        self, work: UnitOfWork, seen: User, hash_: PasswordHash, keep: SignInId, origin: Origin
    ) -> None:
        now = self.confirm.clock.now()
        subject = failures_at_password_change(seen.id)
        user = await work.users.hold(seen.id)
        # Of two changes at once the second knows an outdated password.
        if user is None or not user.has_password_of(seen):
            raise WrongPassword
        await check_late(work, subject, self.confirm.limit, self.confirm.clock)
        await work.users.save(user.with_password(hash_, now))
        await work.sign_ins.end_all_of(user.id, EndReason.PASSWORD_CHANGED, now, but=keep)
        # A mail with which the account could be had again may be in the wrong hands.
        await work.mailed_proofs.void(user.id, OPEN_THE_ACCOUNT, now)
        await work.login_failures.forget(subject)
        await work.audit.note(AuditEntry.of_user("password.changed", user.id, now, origin))
        await work.mails.add(Mail.about(MailKind.PASSWORD_CHANGED, user, now, origin), to=user)
