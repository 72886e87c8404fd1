"""End a sign-in by one of its tokens (RFC 7009)."""

from __future__ import annotations

from services.auth.actions._find_client import find_client
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import RefreshRefused
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, SigningKeySource, UnitOfWork
from services.auth.domain.refresh_token import RefreshToken
from services.auth.domain.sign_in import EndReason, SignIn, SignInId
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """Sign out a client that shows a token of its own; any other token changes nothing.

    A refresh token that was good once is enough: a client that lost our last answer must be able to
    sign out, and whoever shows a stolen one ends what they stole.
    """

    unit_of_work: NewUnitOfWork
    keys: SigningKeySource
    clock: Clock

    async def __call__(
        self, token: str, session_id: SignInId | None, *, client_id: str, origin: Origin
    ) -> None:
        """`session_id`: whose access token it is, if it is one. Raises UnknownClient."""
        async with self.unit_of_work() as work:
            await find_client(work, client_id)
            sign_in = await self._behind(work, token, session_id)
            if sign_in is None or sign_in.client_id != client_id:
                return
            now = self.clock.now()
            if await work.sign_ins.end(sign_in.id, EndReason.SIGNED_OUT, now):
                await work.audit.note(
                    AuditEntry.of_user(
                        "sign_in.ended",
                        sign_in.user_id,
                        now,
                        origin,
                        sign_in_id=str(sign_in.id),
                        reason=EndReason.SIGNED_OUT.value,
                    )
                )

    async def _behind(
        self, work: UnitOfWork, token: str, session_id: SignInId | None
    ) -> SignIn | None:
        if session_id is not None:
            return await work.sign_ins.get(session_id)
        try:
            refresh = RefreshToken.parse(token)
            sign_in = await work.sign_ins.get(refresh.sign_in_id)
            if sign_in is None:
                return None
            pepper = self.keys.current().pepper(sign_in.pepper_version)
        except RefreshRefused:
            return None
        return sign_in if refresh.is_genuine(sign_in, pepper) else None
