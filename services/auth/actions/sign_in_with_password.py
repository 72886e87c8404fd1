"""Exchange a login and a password for a token pair."""

from __future__ import annotations

from services.auth.actions._prove_identity import ProveIdentity
from services.auth.actions.begin_sign_in import BeginSignIn
from services.auth.domain.credentials import Credentials
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.token_pair import TokenPair
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SignInWithPassword:
    """Begin a sign-in on a device."""

    unit_of_work: NewUnitOfWork
    prove: ProveIdentity
    begin: BeginSignIn

    async def __call__(self, shown: Credentials) -> TokenPair:
        """Raises WrongCredentials, TooManyAttempts, AccountInactive, PasswordsBusy or
        SigningKeysUnavailable."""
        # Before a password is worked on in vain.
        self.begin.issuer.keys.current()
        checked = await self.prove.check(shown)
        async with self.unit_of_work() as work:
            proven = await self.prove.conclude(work, checked, shown)
            return await self.begin(work, proven.user, proven.proof, shown.origin)
