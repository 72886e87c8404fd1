"""Exchange a login and a password for a token pair."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.auth.domain.attempts import AttemptLimit, failures_at_login, failures_of
from services.auth.domain.errors import AccountInactive, PasswordsBusy, WrongCredentials
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.ports import NewUnitOfWork, Passwords, UnitOfWork
from services.auth.domain.sign_in import SignIn, SignInLifetimes
from services.auth.domain.token_pair import TokenIssuer, TokenPair
from services.auth.domain.user import LoginName, User
from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class SignInWithPassword:
    """Begin a sign-in on a device.

    Unknown user and wrong password cost the same work and get the same answer. No transaction is
    open while the password is being checked, which takes long.
    """

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    issuer: TokenIssuer
    limit: AttemptLimit
    lifetimes: SignInLifetimes
    clock: Clock

    async def __call__(self, login: str, password: Password, *, device: str) -> TokenPair:
        """Raises WrongCredentials, TooManyAttempts, AccountInactive, PasswordsBusy or
        SigningKeysUnavailable."""
        self.issuer.keys.current()
        name = LoginName.parse(login)
        user = await self._look_up(name)
        if not await self.passwords.verify(password, user.password if user else None):
            await self._count_failure(failures_at_login(name, user))
            raise WrongCredentials
        assert user is not None
        renewed = await self._renewed_hash(user, password)
        async with self.unit_of_work() as work:
            return await self._begin(work, user, renewed, device)

    async def _look_up(self, name: LoginName) -> User | None:
        async with self.unit_of_work() as work:
            user = await work.users.named(name)
            failures = await work.login_failures.of(failures_at_login(name, user))
        self.limit.check_before(failures, self.clock.now())
        return user

    async def _count_failure(self, subject: str) -> None:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            failures = await work.login_failures.add(
                subject, now, window_ends_at=now + self.limit.window
            )
        self.limit.check_after(failures, now)

    async def _renewed_hash(self, user: User, password: Password) -> PasswordHash | None:
        if not self.passwords.is_outdated(user.password):
            return None
        try:
            return await self.passwords.hash(password)
        except PasswordsBusy:
            return None  # The next sign-in will do.

    async def _begin(
        self, work: UnitOfWork, seen: User, renewed: PasswordHash | None, device: str
    ) -> TokenPair:
        now = self.clock.now()
        user = await work.users.hold(seen.id)
        # The password may have been changed since it was read: the old one must not sign in then.
        if user is None or not user.has_password_of(seen):
            raise WrongCredentials
        if not user.is_active:
            raise AccountInactive
        await self._settle_failures(work, user, now)
        if renewed is not None:
            await work.users.save(user.rehashed(renewed))
        sign_in = SignIn.begun(
            user.id,
            device=device,
            pepper_version=self.issuer.keys.current().newest_pepper,
            at=now,
            lifetimes=self.lifetimes,
        )
        await work.sign_ins.add(sign_in)
        return self.issuer.pair(user, sign_in, now)

    async def _settle_failures(self, work: UnitOfWork, user: User, now: datetime) -> None:
        subject = failures_of(user.id)
        # Looked at again: of many guesses in parallel, a late right one must not be told.
        self.limit.check_before(await work.login_failures.of(subject), now)
        await work.login_failures.forget(subject)
