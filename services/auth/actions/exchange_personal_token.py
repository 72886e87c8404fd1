"""Exchange a personal token for an access token."""

from __future__ import annotations

from datetime import datetime

from services.auth.domain.errors import PersonalTokenRefused
from services.auth.domain.exchanged_tokens import Basis, ExchangedToken, ExchangedTokens
from services.auth.domain.personal_token import PersonalToken, PresentedToken, TokenText
from services.auth.domain.ports import PresentedTokens
from services.auth.domain.token_pair import TokenIssuer
from services.auth.domain.user import Role
from shared.clock import Clock
from shared.tokens import PERSONAL
from shared.values import dataclass

_METHODS = (PERSONAL,)


@dataclass(frozen=True, slots=True)
class ExchangePersonalToken:
    """Answer a personal token with an access token of its scopes.

    The database is asked each time, so that a revoked token is refused at its next use. Whatever
    is wrong with a token, the answer is the same.
    """

    presented: PresentedTokens
    issuer: TokenIssuer
    exchanged: ExchangedTokens
    clock: Clock

    async def __call__(self, text: str) -> str:
        """Raises PersonalTokenRefused or SigningKeysUnavailable."""
        token_hash = TokenText.parse(text).hash
        shown = await self.presented.by_hash(token_hash)
        now = self.clock.now()
        scopes = shown.token.scopes_for(shown.owner, now) if shown else frozenset()
        if shown is None or not scopes:
            raise PersonalTokenRefused
        access_token = self._access_token(shown, scopes, now)
        if shown.token.use_is_worth_noting(now):
            await self.presented.note_use(shown.token.id, now)
        return access_token

    def _access_token(self, shown: PresentedToken, scopes: frozenset[str], now: datetime) -> str:
        basis = Basis(shown.owner, scopes, str(self.issuer.keys.current().active.kid))
        return self.exchanged.token_for(
            shown.token.id, basis, now, lambda: self._signed(shown.token, basis, now)
        )

    def _signed(self, token: PersonalToken, basis: Basis, now: datetime) -> ExchangedToken:
        lifetime = token.exchanged_lifetime(now)
        access_token = self.issuer.access_token(
            basis.owner,
            session_id=token.id,
            # Whoever holds it may be a script on somebody's server: it never administers anything.
            role=Role.MEMBER,
            scopes=basis.scopes,
            authenticated_at=token.created_at,
            methods=_METHODS,
            at=now,
            lifetime=lifetime,
        )
        return ExchangedToken(basis, access_token, now + lifetime)
