"""Activate an authenticator."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions.renew_recovery_codes import replace_recovery_codes
from services.auth.domain.attempts import AttemptLimit, failures_at_second_factor
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountGone, TotpActive, TotpNotBegun, WrongOtp
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mailed_proof import OPEN_THE_ACCOUNT
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.second_factor import OTP, RecoveryCode
from services.auth.domain.sign_in import EndReason, Proof, SignInId
from services.auth.domain.user import User
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ConfirmTotp:
    """Take the first code, hand out recovery codes, and end every sign-in but the one that asks:
    the others were begun without the second factor."""

    unit_of_work: NewUnitOfWork
    limit: AttemptLimit
    clock: Clock

    async def __call__(
        self, user_id: UserId, code: str, *, keep: SignInId, origin: Origin
    ) -> Sequence[RecoveryCode]:
        """Raises TotpNotBegun, TotpActive, WrongOtp, TooManyAttempts or AccountGone."""
        async with self.unit_of_work() as work:
            user = await work.users.hold(user_id)
            if user is None:
                raise AccountGone
            if not await self._activate(work, user, code):
                codes = None
            else:
                codes = await replace_recovery_codes(work, user_id)
                await self._tell(work, user, keep, origin)
        # Only now: an exception inside would have undone the count.
        if codes is None:
            raise WrongOtp
        return codes

    async def _activate(self, work: UnitOfWork, user: User, code: str) -> bool:
        subject = failures_at_second_factor(user.id)
        known = await work.login_failures.hold(subject)
        now = self.clock.now()
        self.limit.check(known, now)
        totp = await work.second_factors.totp_of(user.id)
        if totp is not None and totp.is_active:
            raise TotpActive
        if totp is None or not totp.can_be_confirmed(now):
            raise TotpNotBegun
        step = totp.step_of(code, now)
        if step is None:
            await work.login_failures.save(subject, self.limit.after_one_more(known, now))
            return False
        if not await work.second_factors.confirm(totp.confirmed(step, now)):
            raise TotpNotBegun
        await work.login_failures.forget(subject)
        return True

    async def _tell(self, work: UnitOfWork, user: User, keep: SignInId, origin: Origin) -> None:
        now = self.clock.now()
        await work.sign_ins.end_all_of(user.id, EndReason.SECOND_FACTOR_CHANGED, now, but=keep)
        await work.mailed_proofs.void(user.id, OPEN_THE_ACCOUNT, now)
        acting = await work.sign_ins.get(keep)
        if acting is not None:
            # The password was not asked for again, so the proof is as old as it was.
            proof = Proof(acting.authenticated_at, acting.methods | {OTP})
            await work.sign_ins.prove_again(acting.proven_again(proof))
        await work.audit.note(AuditEntry.of_user("second_factor.added", user.id, now, origin))
        await work.mails.add(Mail.about(MailKind.NEW_FACTOR, user, now, origin), to=user)
