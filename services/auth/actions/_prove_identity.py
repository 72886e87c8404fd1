"""Check a login, its password and its second factor, as every way of signing in does."""

from __future__ import annotations

from datetime import timedelta

from services.auth.actions._limit_guesses import LimitGuesses
from services.auth.actions.check_second_factor import CheckSecondFactor
from services.auth.domain.attempts import failures_at_login, failures_of
from services.auth.domain.credentials import Credentials
from services.auth.domain.errors import (
    AccountInactive,
    OtpRefused,
    OtpRequired,
    PasswordsBusy,
    WrongCredentials,
)
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import Origin
from services.auth.domain.password import PasswordHash
from services.auth.domain.ports import NewUnitOfWork, Passwords, UnitOfWork
from services.auth.domain.sign_in import PASSWORD, Proof
from services.auth.domain.user import LoginName, User
from shared.clock import Clock
from shared.values import dataclass

# Of those that attempts to sign in bring; who signs in often must not get many.
_BETWEEN_PROOFS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ProvenUser:
    """Who it is, held in the unit of work that goes on with it, and how they proved it."""

    user: User
    proof: Proof


@dataclass(frozen=True, slots=True)
class ProveIdentity:
    """Find out who somebody is.

    Unknown user and wrong password cost the same work and get the same answer; that a second factor
    is needed hears only who knows the password. No transaction is open while the password is being
    checked, which takes long.
    """

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    guesses: LimitGuesses
    second_factor: CheckSecondFactor
    clock: Clock
    only_verified: bool = False

    async def check(self, shown: Credentials) -> CheckedIdentity:
        """The slow half, which uses up a code.

        Raises WrongCredentials, OtpRequired, OtpRefused, TooManyAttempts or PasswordsBusy.
        """
        self.passwords.refuse_if_full(shown.origin)
        name = LoginName.parse(shown.login)
        user = await self._look_up(name, shown.origin)
        hash_ = user.password if user else None
        if not await self.passwords.verify(shown.password, hash_, shown.origin):
            subject = self._counted_at(name, user)
            await self.guesses.count(subject, shown.origin, at=user.id if user else None)
            raise WrongCredentials
        assert user is not None
        if self.only_verified and not user.email_verified:
            await self._ask_for_verification(name, user, shown.origin)
            raise WrongCredentials
        methods = {PASSWORD}
        if user.has_second_factor:
            methods.add(await self._check_second_factor(user, shown))
        renewed = await self._renewed_hash(user, shown)
        return CheckedIdentity(user, frozenset(methods), renewed)

    async def conclude(
        self, work: UnitOfWork, checked: CheckedIdentity, shown: Credentials
    ) -> ProvenUser:
        """The half that belongs to the caller's transaction, which may then go on.

        Raises WrongCredentials, OtpRequired, AccountInactive or TooManyAttempts.
        """
        now = self.clock.now()
        user = await work.users.hold(checked.user.id)
        # The password may have been changed since it was read: the old one must not sign in then.
        if user is None or not user.has_password_of(checked.user):
            raise WrongCredentials
        subject = failures_of(user.id)
        await self.guesses.check_late(work, subject, shown.origin)
        if not user.is_active:
            raise AccountInactive
        if user.has_second_factor and checked.methods == {PASSWORD}:
            raise OtpRequired  # It was set up a moment ago.
        await work.login_failures.forget(subject)
        if checked.renewed is not None:
            user = user.rehashed(checked.renewed)
        user = user.signed_in(now)
        await work.users.save(user)
        return ProvenUser(user, Proof(now, checked.methods))

    async def _look_up(self, name: LoginName, origin: Origin) -> User | None:
        async with self.unit_of_work() as work:
            user = await work.users.named(name)
            await self.guesses.check(work, self._counted_at(name, user), origin)
        return user

    def _counted_at(self, name: LoginName, user: User | None) -> str:
        """Where only proven addresses sign in, guesses at one that is not proven are nobody's: by a
        wait of their own account, whoever claims it would learn that it is not somebody else's."""
        is_claim = name.email is not None and user is not None and not user.email_verified
        return failures_at_login(name, None if self.only_verified and is_claim else user)

    async def _ask_for_verification(self, name: LoginName, user: User, origin: Origin) -> None:
        """Counted like a wrong password, which is what its sender hears."""
        await self.guesses.count(self._counted_at(name, user), origin, at=user.id)
        now = self.clock.now()
        mail = Mail.with_proof(MailKind.VERIFY_EMAIL, user, now, not_within=_BETWEEN_PROOFS)
        async with self.unit_of_work() as work:
            await work.mails.add(mail, to=user)

    async def _check_second_factor(self, seen: User, shown: Credentials) -> str:
        """The method. A missing code is no failure, and no way around having to wait either."""
        async with self.unit_of_work() as work:
            user = await work.users.get(seen.id)
            if user is None or not user.has_password_of(seen):
                raise WrongCredentials
            await self.guesses.check_late(work, failures_of(user.id), shown.origin)
            if shown.otp is None:
                raise OtpRequired
            method = await self.second_factor(work, user, shown.otp, shown.origin)
            if method is None:
                await self.guesses.count_beside(work, shown.origin)
        # Only now: an exception inside would have undone the count.
        if method is None:
            raise OtpRefused
        return method

    async def _renewed_hash(self, user: User, shown: Credentials) -> PasswordHash | None:
        if not self.passwords.is_outdated(user.password):
            return None
        try:
            return await self.passwords.hash(shown.password, shown.origin)
        except PasswordsBusy:
            return None  # The next sign-in will do.


@dataclass(frozen=True, slots=True)
class CheckedIdentity:
    """A user as seen when the password fitted, how they proved themselves, and the password's hash
    under new parameters."""

    user: User
    methods: frozenset[str]
    renewed: PasswordHash | None
