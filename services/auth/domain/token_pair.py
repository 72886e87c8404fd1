"""What a client holds while signed in: an access token and the refresh token that renews it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from services.auth.domain.ports import SigningKeySource
from services.auth.domain.refresh_token import RefreshToken
from services.auth.domain.sign_in import SignIn, SignInId
from services.auth.domain.user import Role, User
from shared.tokens import sign_access_token
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Given to one device, once per sign-in or rotation."""

    user: User
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: timedelta
    scopes: frozenset[str]
    sign_in_id: SignInId


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
            access_token=self.of_sign_in(user, sign_in, at),
            refresh_token=RefreshToken.current_of(sign_in, pepper).encoded,
            expires_in=self.access_lifetime,
            scopes=sign_in.scopes_of(user),
            sign_in_id=sign_in.id,
        )

    def of_sign_in(self, user: User, sign_in: SignIn, at: datetime) -> str:
        """An access token alone, for a person who is signed in."""
        return self.access_token(
            user,
            session_id=sign_in.id,
            role=user.role,
            scopes=sign_in.scopes_of(user),
            authenticated_at=sign_in.authenticated_at,
            methods=sign_in.methods,
            at=at,
            lifetime=self.access_lifetime,
        )

    def access_token(
        self,
        user: User,
        *,
        session_id: UUID,
        role: Role,
        scopes: Collection[str],
        authenticated_at: datetime,
        methods: Collection[str],
        at: datetime,
        lifetime: timedelta,
    ) -> str:
        """A token that every service takes. Raises SigningKeysUnavailable."""
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(user.id),
            "jti": str(uuid4()),
            "sid": str(session_id),
            "tier": user.effective_tier,
            # What the operator made of this user. An organisation's roles stay in `org_role`:
            # whoever is trusted with one organisation's bills is not trusted with ours.
            "role": role.value,
            "org": str(user.membership.organisation_id) if user.membership else None,
            "org_role": user.membership.role.value if user.membership else None,
            "org_seated": user.membership.is_seated if user.membership else False,
            "scope": " ".join(sorted(scopes)),
            "auth_time": int(authenticated_at.timestamp()),
            "amr": sorted(methods),
            "mfa": user.has_second_factor,
        }
        return sign_access_token(
            self.keys.current().active,
            claims,
            issued_at=int(at.timestamp()),
            lifetime_seconds=int(lifetime.total_seconds()),
        )
