"""Who a *service* is: short-lived tokens that one service signs and another verifies.

Each service holds its own EC P-256 key; all know each other's public keys (a JWKS whose key ids
are the services' names). A token is bound to its audience and lives for a minute at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from shared.errors import Unauthenticated
from shared.ids import UserId, uuid7
from shared.tokens import ALGORITHM, CLOCK_SKEW_SECONDS

SERVICE_TOKEN_TYPE = "svc+jwt"  # noqa: S105 - a media type
GRANT_TYPE = "grant+jwt"
_LIFETIME_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Grant:
    """A service's word that it needs one user's key at one vendor for one live request."""

    grant_id: UUID
    service: str
    user_id: UserId
    provider: str
    request_id: str


@dataclass(frozen=True, slots=True)
class OnBehalfOf:
    """Whose key a call to a vendor needs, and the access token that proves they are here."""

    user_id: UserId
    request_id: str
    access_token: str = field(repr=False)


class ServiceIdentity:
    """Signs in the name of this service."""

    def __init__(self, name: str, private_key: ECKey) -> None:
        self.name = name
        self._key = private_key

    @classmethod
    def from_file(cls, name: str, path: Path) -> ServiceIdentity:
        """Read the PEM key. Raises OSError or ValueError when there is none that fits."""
        return cls(name, ECKey.import_key(path.read_text(), {"kid": name}))

    def token_for(self, audience: str) -> str:
        """A token that tells `audience` who is calling."""
        return self._sign(SERVICE_TOKEN_TYPE, audience, {})

    def grant(self, *, user_id: UserId, provider: str, request_id: str) -> str:
        """A grant for one use of the user's key; keyvault honours it once."""
        claims = {"sub": str(user_id), "provider": provider, "req": request_id}
        return self._sign(GRANT_TYPE, "keyvault", claims)

    def _sign(self, type_: str, audience: str, claims: Mapping[str, Any]) -> str:
        now = int(time.time())
        header = {"alg": ALGORITHM, "typ": type_, "kid": self.name}
        body = {
            **claims,
            "iss": self.name,
            "aud": audience,
            "iat": now,
            "exp": now + _LIFETIME_SECONDS,
            "jti": str(uuid7()),
        }
        return jwt.encode(header, body, self._key, algorithms=[ALGORITHM])


class Peers:
    """Verifies what other services signed for this one."""

    def __init__(self, audience: str, public_keys: KeySet) -> None:
        self._audience = audience
        self._keys = public_keys

    @classmethod
    def from_file(cls, audience: str, path: Path) -> Peers:
        """Read the JWKS of all services. Raises OSError or ValueError when it can't be used."""
        return cls(audience, KeySet.import_key_set(json.loads(path.read_text())))

    def service_of(self, token: str) -> str:
        """The name of the service that signed the token. Raises Unauthenticated."""
        return str(self._claims(token, SERVICE_TOKEN_TYPE)["iss"])

    def grant_of(self, token: str) -> Grant:
        """The grant that the token carries. Raises Unauthenticated."""
        claims = self._claims(token, GRANT_TYPE)
        try:
            return Grant(
                grant_id=UUID(claims["jti"]),
                service=str(claims["iss"]),
                user_id=UserId(UUID(claims["sub"])),
                provider=str(claims["provider"]),
                request_id=str(claims["req"]),
            )
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise Unauthenticated("The grant lacks a claim.") from error

    def _claims(self, token: str, type_: str) -> Mapping[str, Any]:
        try:
            decoded = jwt.decode(token, self._keys, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Unauthenticated("The service token is not valid.") from error
        claims, header, now = decoded.claims, decoded.header, time.time()
        expires = claims.get("exp")
        if header.get("typ") != type_ or claims.get("aud") != self._audience:
            raise Unauthenticated("The service token was issued for another purpose.")
        # The key id names the service: a service can't sign in another's name.
        if header.get("kid") != claims.get("iss"):
            raise Unauthenticated("The service token's issuer does not match its key.")
        if type(expires) is not int or not (
            now - CLOCK_SKEW_SECONDS < expires <= now + _LIFETIME_SECONDS + CLOCK_SKEW_SECONDS
        ):
            raise Unauthenticated("The service token has expired.")
        return claims
