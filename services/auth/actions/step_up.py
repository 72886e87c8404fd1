"""Prove once more who one is."""

from __future__ import annotations

from services.auth.actions._limit_guesses import check_late
from services.auth.actions.check_second_factor import CheckSecondFactor
from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.domain.attempts import failures_at_password_change
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountInactive, OtpRequired, WrongOtp, WrongPassword
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.sign_in import PASSWORD, Proof, SignInId
from services.auth.domain.token_pair import TokenIssuer
from services.auth.domain.user import User
from shared.errors import SessionEnded
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class StepUp:
    """Give a sign-in a fresh proof, which sensitive routes ask for; guesses count as at a change of
    the password."""

    unit_of_work: NewUnitOfWork
    confirm: ConfirmPassword
    second_factor: CheckSecondFactor
    issuer: TokenIssuer

    async def __call__(
        self,
        user_id: UserId,
        *,
        sign_in_id: SignInId,
        password: Password,
        code: str | None,
        origin: Origin,
    ) -> str:
        """An access token of the same sign-in.

        Raises WrongPassword, OtpRequired, WrongOtp, TooManyAttempts, PasswordsBusy, SessionEnded,
        SigningKeysUnavailable, AccountInactive or AccountGone.
        """
        seen = await self.confirm(user_id, password, origin)
        async with self.unit_of_work() as work:
            user = await self._held(work, seen)
            method = PASSWORD
            if user.has_second_factor:
                method = await self._second_method(work, user, code, origin) or ""
            token = await self._prove(work, user, sign_in_id, method, origin) if method else None
        # Only now: an exception inside would have undone the count.
        if token is None:
            raise WrongOtp
        return token

    async def _held(self, work: UnitOfWork, seen: User) -> User:
        user = await work.users.hold(seen.id)
        if user is None or not user.has_password_of(seen):
            raise WrongPassword
        subject = failures_at_password_change(user.id)
        await check_late(work, subject, self.confirm.limit, self.confirm.clock)
        if not user.is_active:
            raise AccountInactive
        return user

    async def _second_method(
        self, work: UnitOfWork, user: User, code: str | None, origin: Origin
    ) -> str | None:
        if code is None:
            raise OtpRequired
        return await self.second_factor(work, user, code, origin)

    async def _prove(
        self, work: UnitOfWork, user: User, sign_in_id: SignInId, method: str, origin: Origin
    ) -> str:
        now = self.confirm.clock.now()
        sign_in = await work.sign_ins.get(sign_in_id)
        if sign_in is None or not sign_in.belongs_to(user.id) or not sign_in.is_live(now):
            raise SessionEnded
        proven = sign_in.proven_again(Proof(now, frozenset({PASSWORD, method})))
        await work.sign_ins.prove_again(proven)
        await work.login_failures.forget(failures_at_password_change(user.id))
        await work.audit.note(
            AuditEntry.of_user(
                "identity.proven_again",
                user.id,
                now,
                origin,
                sign_in_id=str(sign_in_id),
                methods=sorted(proven.methods),
            )
        )
        return self.issuer.of_sign_in(user, proven, now)
