"""Choose a new password with the token of a mail."""

from __future__ import annotations

from datetime import datetime

from services.auth.domain.attempts import failures_at_password_change, failures_of
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import ProofRefused
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mailed_proof import (
    EVERY_PURPOSE,
    MailedProof,
    ProofPurpose,
    ProofToken,
)
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.personal_token import MOST_LIVE_TOKENS
from services.auth.domain.ports import NewUnitOfWork, PasswordRules, Passwords, UnitOfWork
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import User
from shared.clock import Clock
from shared.values import dataclass

_PURPOSES = frozenset({ProofPurpose.RESET_PASSWORD})


@dataclass(frozen=True, slots=True)
class ResetPassword:
    """Replace a forgotten password and end every sign-in.

    It proves the address, since the token came by mail; it does not stand in for the second factor
    of an account whose address was proven before.
    """

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    rules: PasswordRules
    clock: Clock

    async def __call__(self, token: ProofToken, new: Password, origin: Origin) -> None:
        """Raises ProofRefused, PasswordRefused, PasswordsBusy or AddressTaken."""
        # A refused password leaves the token good, or its owner would need another mail.
        async with self.unit_of_work() as work:
            proof = await work.mailed_proofs.find(token.hash, _PURPOSES, self.clock.now())
            user = _owner(proof, await work.users.get(proof.user_id) if proof else None)
        await self.rules.check(new, email=user.email, username=user.username, origin=origin)
        hash_ = await self.passwords.hash(new, origin)
        async with self.unit_of_work() as work:
            await self._replace(work, token, hash_, origin)

    async def _replace(
        self, work: UnitOfWork, token: ProofToken, hash_: PasswordHash, origin: Origin
    ) -> None:
        now = self.clock.now()
        # The account first, as whoever voids proofs has it: in one order nobody waits for another.
        proof = await work.mailed_proofs.find(token.hash, _PURPOSES, now)
        user = _owner(proof, await work.users.hold(proof.user_id) if proof else None)
        if await work.mailed_proofs.take(token.hash, _PURPOSES, now) is None:
            raise ProofRefused
        await work.users.save(user.with_password(hash_, now).verified(now))
        await work.sign_ins.end_all_of(user.id, EndReason.PASSWORD_CHANGED, now)
        # Whoever knew the old password may have asked for another address.
        await work.mailed_proofs.void(user.id, EVERY_PURPOSE, now)
        if not user.email_verified:
            await _take_from_its_opener(work, user, now)
        for subject in (failures_of(user.id), failures_at_password_change(user.id)):
            await work.login_failures.forget(subject)
        await _note(work, user, now, origin)
        await work.mails.add(Mail.about(MailKind.PASSWORD_CHANGED, user, now, origin), to=user)


def _owner(proof: MailedProof | None, user: User | None) -> User:
    # Sent to the address that the account had then, it must not open the account that moved on.
    if proof is None or user is None or user.email != proof.email or not user.is_active:
        raise ProofRefused
    return user


async def _take_from_its_opener(work: UnitOfWork, user: User, at: datetime) -> None:
    """Whoever opened the account had not proven the address: it may have been somebody else, who
    would go on reading what its new owner does, or whose second factor would keep them out."""
    await work.second_factors.remove(user.id)
    tokens = await work.personal_tokens.hold_live_of(user.id, at, most=MOST_LIVE_TOKENS)
    for token in tokens:
        await work.personal_tokens.revoke(token.id, at)
    await work.ended_credentials.add([token.id for token in tokens], of=user.id, at=at)


async def _note(work: UnitOfWork, user: User, at: datetime, origin: Origin) -> None:
    await work.audit.note(AuditEntry.of_user("password.reset", user.id, at, origin))
    if not user.email_verified:
        await work.audit.note(AuditEntry.of_user("email.verified", user.id, at, origin))
