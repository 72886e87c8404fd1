"""Take a code of an authenticator, or a recovery code."""

from __future__ import annotations

from services.auth.domain.attempts import AttemptLimit, failures_at_second_factor
from services.auth.domain.audit import AuditEntry
from services.auth.domain.origin import Origin
from services.auth.domain.ports import UnitOfWork
from services.auth.domain.second_factor import OTP, RECOVERY, RecoveryCode, is_totp_code
from services.auth.domain.user import User
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class CheckSecondFactor:
    """Find out whether a code is right, and use it up.

    A wrong one is counted in the caller's unit of work, which must therefore end well; only then
    may the caller refuse.
    """

    limit: AttemptLimit
    clock: Clock

    async def __call__(self, work: UnitOfWork, user: User, code: str, origin: Origin) -> str | None:
        """The method that was used, or None for a wrong code. Raises TooManyAttempts."""
        subject = failures_at_second_factor(user.id)
        known = await work.login_failures.hold(subject)
        now = self.clock.now()
        self.limit.check(known, now)
        method = await self._use_up(work, user, code)
        if method is None:
            await work.login_failures.save(subject, self.limit.after_one_more(known, now))
            # Worth a line: whoever mistyped this knew the password.
            await self._note(work, "second_factor.refused", user, origin)
        else:
            await work.login_failures.forget(subject)
            if method == RECOVERY:
                await self._note(work, "recovery_code.used", user, origin)
        return method

    async def _use_up(self, work: UnitOfWork, user: User, code: str) -> str | None:
        factors = work.second_factors
        if is_totp_code(code):
            totp = await factors.totp_of(user.id)
            step = totp.step_of(code, self.clock.now()) if totp and totp.is_active else None
            return OTP if step is not None and await factors.take_step(user.id, step) else None
        recovery = RecoveryCode.parse(code)
        if recovery is None:
            return None
        hash_ = recovery.hash_for(user.id)
        used = await factors.take_recovery_code(user.id, hash_, self.clock.now())
        return RECOVERY if used else None

    async def _note(self, work: UnitOfWork, action: str, user: User, origin: Origin) -> None:
        await work.audit.note(AuditEntry.of_user(action, user.id, self.clock.now(), origin))
