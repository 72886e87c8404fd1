"""Begin a sign-in for somebody who has proven who they are."""

from __future__ import annotations

from services.auth.domain.audit import AuditEntry
from services.auth.domain.origin import Origin
from services.auth.domain.ports import UnitOfWork
from services.auth.domain.sign_in import Proof, SignIn, SignInLifetimes
from services.auth.domain.token_pair import TokenIssuer, TokenPair
from services.auth.domain.user import User
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class BeginSignIn:
    """Keep a new device and give it its first tokens."""

    issuer: TokenIssuer
    lifetimes: SignInLifetimes
    clock: Clock

    async def __call__(
        self,
        work: UnitOfWork,
        user: User,
        proof: Proof,
        origin: Origin,
        *,
        client_id: str | None = None,
        scopes: frozenset[str] | None = None,
    ) -> TokenPair:
        """Raises SigningKeysUnavailable."""
        now = self.clock.now()
        sign_in = SignIn.begun(
            user.id,
            device=origin.device,
            pepper_version=self.issuer.keys.current().newest_pepper,
            proof=proof,
            client_id=client_id,
            scopes=scopes,
            at=now,
            lifetimes=self.lifetimes,
        )
        await work.sign_ins.add(sign_in)
        await work.audit.note(
            AuditEntry.of_user(
                "sign_in.begun",
                user.id,
                now,
                origin,
                sign_in_id=str(sign_in.id),
                methods=sorted(proof.methods),
                client_id=client_id,
            )
        )
        return self.issuer.pair(user, sign_in, now)
