"""What a client holds while signed in: an access token and the refresh token that renews it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from services.auth.domain.ports import SigningKeySource
from services.auth.domain.refresh_token import RefreshToken
from services.auth.domain.sign_in import SignIn
from services.auth.domain.user import User
from shared.tokens import sign_access_token


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Given to one device, once per sign-in or rotation."""

    user: User
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: timedelta


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Signs tokens in the name of this installation."""

    keys: SigningKeySource
    issuer: str
    audience: str
    access_lifetime: timedelta

    def pair(self, user: User, sign_in: SignIn, at: datetime) -> TokenPair:
        """A fresh access token beside the sign-in's current refresh token.

        Raises SigningKeysUnavailable, or RefreshRefused when the sign-in's pepper is gone.
        """
        pepper = self.keys.current().pepper(sign_in.pepper_version)
        return TokenPair(
            user=user,
            access_token=self._access_token(user, sign_in, at),
            refresh_token=RefreshToken.current_of(sign_in, pepper).encoded,
            expires_in=self.access_lifetime,
        )

    def _access_token(self, user: User, sign_in: SignIn, at: datetime) -> str:
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(user.id),
            "jti": str(uuid4()),
            "sid": str(sign_in.id),
            "tier": user.tier,
            "role": user.role.value,
            "org": None,
            "scope": "",
        }
        return sign_access_token(
            self.keys.current().active,
            claims,
            issued_at=int(at.timestamp()),
            lifetime_seconds=int(self.access_lifetime.total_seconds()),
        )
