"""Replace a password."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.attempts import AttemptLimit, failures_at_password_change
from services.auth.domain.errors import AccountGone, WrongPassword
from services.auth.domain.password import Password, PasswordHash, check_strength
from services.auth.domain.ports import NewUnitOfWork, Passwords
from services.auth.domain.sign_in import EndReason, SignInId
from services.auth.domain.user import User
from shared.clock import Clock
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Replace the password and end every sign-in but the one that asks."""

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    limit: AttemptLimit
    clock: Clock

    async def __call__(
        self, user_id: UserId, *, current: Password, new: Password, keep: SignInId
    ) -> None:
        """Raises WrongPassword, PasswordRefused, TooManyAttempts, PasswordsBusy or AccountGone."""
        user = await self._look_up(user_id)
        check_strength(new, email_local_part=user.email.local_part, username=user.username.text)
        if not await self.passwords.verify(current, user.password):
            await self._count_failure(user_id)
            raise WrongPassword
        await self._replace(user, await self.passwords.hash(new), keep)

    async def _look_up(self, user_id: UserId) -> User:
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
            failures = await work.login_failures.of(failures_at_password_change(user_id))
        if user is None:
            raise AccountGone
        self.limit.check_before(failures, self.clock.now())
        return user

    async def _count_failure(self, user_id: UserId) -> None:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            failures = await work.login_failures.add(
                failures_at_password_change(user_id), now, window_ends_at=now + self.limit.window
            )
        self.limit.check_after(failures, now)

    async def _replace(self, seen: User, hash_: PasswordHash, keep: SignInId) -> None:
        now = self.clock.now()
        subject = failures_at_password_change(seen.id)
        async with self.unit_of_work() as work:
            user = await work.users.hold(seen.id)
            # Of two changes at once the second knows an outdated password.
            if user is None or not user.has_password_of(seen):
                raise WrongPassword
            self.limit.check_before(await work.login_failures.of(subject), now)
            await work.users.save(user.with_password(hash_, now))
            await work.sign_ins.end_all_of(user.id, EndReason.PASSWORD_CHANGED, now, but=keep)
            await work.login_failures.forget(subject)
