"""Take the proof that somebody reads the mail of an address."""

from __future__ import annotations

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
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.user import User
from shared.clock import Clock
from shared.values import dataclass

_PURPOSES = frozenset({ProofPurpose.VERIFY_EMAIL, ProofPurpose.CHANGE_EMAIL})


@dataclass(frozen=True, slots=True)
class VerifyEmail:
    """The address of an account, or the one that it is to have, is proven from now on."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, token: ProofToken, origin: Origin) -> None:
        """Raises ProofRefused, or AddressTaken when another account was faster."""
        async with self.unit_of_work() as work:
            # The account first, as whoever voids proofs has it: in one order nobody waits for
            # another, and what was voided meanwhile is no good.
            seen = await work.mailed_proofs.find(token.hash, _PURPOSES, self.clock.now())
            user = await work.users.hold(seen.user_id) if seen else None
            proof = await work.mailed_proofs.take(token.hash, _PURPOSES, self.clock.now())
            if proof is None or user is None or not user.is_active:
                raise ProofRefused
            if proof.purpose is ProofPurpose.CHANGE_EMAIL:
                await self._change(work, user, proof, origin)
            else:
                await self._verify(work, user, proof, origin)

    async def _verify(
        self, work: UnitOfWork, user: User, proof: MailedProof, origin: Origin
    ) -> None:
        # It proves the address that it was sent to, not the one that the account has meanwhile.
        if user.email != proof.email:
            raise ProofRefused
        if user.email_verified:
            return
        now = self.clock.now()
        await work.users.save(user.verified(now))
        await work.audit.note(AuditEntry.of_user("email.verified", user.id, now, origin))

    async def _change(
        self, work: UnitOfWork, user: User, proof: MailedProof, origin: Origin
    ) -> None:
        now = self.clock.now()
        await work.users.save(user.moved_to(proof.email, now))
        # Nothing that is on its way to the old address opens this account any more.
        await work.mailed_proofs.void(user.id, EVERY_PURPOSE, now)
        await work.audit.note(AuditEntry.of_user("email.changed", user.id, now, origin))
        # An address that was never proven may be a stranger's.
        if user.email_verified and user.email != proof.email:
            await work.mails.add(Mail.about(MailKind.EMAIL_CHANGED, user, now, origin), to=user)
