"""Ask somebody who is signed in for their password."""

from __future__ import annotations

from services.auth.actions._limit_guesses import count_failure
from services.auth.domain.attempts import AttemptLimit, failures_at_password_change
from services.auth.domain.errors import AccountGone, WrongPassword
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from services.auth.domain.ports import NewUnitOfWork, Passwords
from services.auth.domain.user import User
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ConfirmPassword:
    """Check the password of a signed-in user; counted apart from the guesses of strangers."""

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    limit: AttemptLimit
    clock: Clock

    async def __call__(self, user_id: UserId, password: Password, origin: Origin) -> User:
        """Raises WrongPassword, TooManyAttempts, PasswordsBusy or AccountGone."""
        user = await self._look_up(user_id)
        if not await self.passwords.verify(password, user.password, origin):
            await self._count_failure(user_id)
            raise WrongPassword
        return user

    async def _look_up(self, user_id: UserId) -> User:
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
            failures = await work.login_failures.of(failures_at_password_change(user_id))
        if user is None:
            raise AccountGone
        self.limit.check(failures, self.clock.now())
        return user

    async def _count_failure(self, user_id: UserId) -> None:
        subject = failures_at_password_change(user_id)
        async with self.unit_of_work() as work:
            await count_failure(work, subject, self.limit, self.clock)
