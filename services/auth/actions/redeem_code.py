"""Exchange a code for a token pair."""

from __future__ import annotations

from services.auth.actions._find_client import find_client
from services.auth.actions.begin_sign_in import BeginSignIn
from services.auth.domain.audit import AuditEntry
from services.auth.domain.authorization import AuthorizationCode, Redemption, hash_of_code
from services.auth.domain.errors import CodeRefused, UnknownClient
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.sign_in import EndReason, SignInId
from services.auth.domain.token_pair import TokenPair
from services.auth.domain.user import User
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RedeemCode:
    """Begin the sign-in that somebody has allowed on the login page.

    A code is good for one try, right or wrong. When it comes again, two parties hold it, and nobody
    can tell which of them has begun the sign-in: that ends.
    """

    unit_of_work: NewUnitOfWork
    begin: BeginSignIn
    clock: Clock

    async def __call__(self, shown: Redemption, origin: Origin) -> TokenPair:
        """Raises CodeRefused, UnknownClient or SigningKeysUnavailable."""
        self.begin.issuer.keys.current()
        code_hash = hash_of_code(shown.code)
        if code_hash is None:
            raise CodeRefused
        async with self.unit_of_work() as work:
            await find_client(work, shown.client_id)
            code, user = await self._held(work, code_hash)
            pair = await self._tokens_for(work, code, user, shown, origin) if code else None
        # Only now: an exception inside would have undone that the code is used.
        if pair is None:
            raise CodeRefused
        return pair

    async def _held(
        self, work: UnitOfWork, code_hash: bytes
    ) -> tuple[AuthorizationCode | None, User | None]:
        code = await work.authorization_codes.get(code_hash)
        if code is None:
            return None, None
        # The user first, as whoever ends all sign-ins has them: in one order nobody waits for
        # another, and what they have made void is seen.
        user = await work.users.hold(code.user_id)
        return await work.authorization_codes.hold(code_hash), user

    async def _tokens_for(
        self,
        work: UnitOfWork,
        code: AuthorizationCode,
        user: User | None,
        shown: Redemption,
        origin: Origin,
    ) -> TokenPair | None:
        now = self.clock.now()
        if code.used_at is not None:
            await self._end_what_it_began(work, code, origin)
            return None
        if user is None or not code.is_met_by(shown, now) or not code.is_still_of(user):
            await work.authorization_codes.use(code.used(now, None))
            return None
        # Whoever disables the client finds the sign-in, or we find that it is disabled.
        client = await work.oauth_clients.hold(code.client_id)
        if client is None or not client.is_enabled:
            raise UnknownClient
        pair = await self.begin(
            work, user, code.proof, origin, client_id=code.client_id, scopes=code.scopes
        )
        await work.authorization_codes.use(code.used(now, pair.sign_in_id))
        return pair

    async def _end_what_it_began(
        self, work: UnitOfWork, code: AuthorizationCode, origin: Origin
    ) -> None:
        now = self.clock.now()
        if code.sign_in_id is None or not await work.sign_ins.end(
            SignInId(code.sign_in_id), EndReason.CODE_REUSED, now
        ):
            return
        facts = {"sign_in_id": str(code.sign_in_id), "client_id": code.client_id}
        # Who shows a code again is not known: any client can be told by whoever has seen one.
        nobody = None
        await work.audit.note(
            AuditEntry(
                uuid7(), now, "code.reused", code.user_id, nobody, facts=facts, origin=origin
            )
        )
