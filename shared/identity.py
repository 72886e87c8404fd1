"""Who a *service* is: short-lived tokens that one service signs and another verifies.

Each service holds its own EC P-256 key; all know each other's public keys by one JWKS. A key's id
is `<service>.<start of its thumbprint>`, so that a service may have two while they are exchanged. A
token is bound to its audience and lives for a minute at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from shared import compact_jws
from shared.errors import Unauthenticated
from shared.ids import UserId, uuid7
from shared.revocation import KeyInUse, KeyOfCall
from shared.settings import file_of
from shared.tokens import CLOCK_SKEW_SECONDS
from shared.values import dataclass, replace
from shared.watched_file import UnusableFile, WatchedFile

SERVICE_TOKEN_TYPE = "svc+jwt"  # noqa: S105 - a media type
GRANT_TYPE = "grant+jwt"
USER_HEADER = "x-companion-user"
"""In which a service shows the access token of the user for whom it asks another."""

_CURVE = "P-256"
_THUMBPRINT_LETTERS = 16
_LIFETIME_SECONDS = 60
RETIRED_SECONDS = _LIFETIME_SECONDS + 3 * CLOCK_SKEW_SECONDS
"""How long after its last use a key is still trusted: its last token's life, and clocks apart."""


class ServiceTokenExpired(Unauthenticated):
    """A service did sign it, for this purpose, and it is over: somebody stood still or a clock is
    off, or it was kept. `seconds`: since when."""

    def __init__(self, service: str, seconds: float) -> None:
        super().__init__("The service token has expired.")
        self.service = service
        self.seconds = seconds


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
    sign_in_id: UUID
    served_by: UUID | None = None  # the organisation whose keys they may use, by their token
    # Whose key may be the one all the same: keyvault also goes by news of a seat that are newer.
    organisation_id: UUID | None = None
    key: KeyInUse = field(default_factory=KeyInUse, compare=False, repr=False)

    def for_call(self) -> tuple[OnBehalfOf, KeyOfCall]:
        """The same for one paid call, and what will know on whose key that ran."""
        key = KeyOfCall(self.key)
        return self.on(key), key

    def on(self, key: KeyOfCall) -> OnBehalfOf:
        """The same for a further request of a call that has begun."""
        return replace(self, key=key)


def key_id(service: str, key: ECKey) -> str:
    """The id of a service's key."""
    return f"{service}.{key.thumbprint()[:_THUMBPRINT_LETTERS]}"


def service_of_key(kid: str) -> str:
    """The service that a key id names."""
    return kid.partition(".")[0]


class ServiceIdentity:
    """Signs in the name of this service."""

    def __init__(self, name: str, private_key: WatchedFile[ECKey]) -> None:
        self.name = name
        self._key = private_key
        self._signer: _Signer | None = None

    @classmethod
    def from_file(cls, name: str, path: Path) -> ServiceIdentity:
        """Read the PEM key, and again when it changes; a change that can't be used is ignored.

        Raises OSError or ValueError when there is none that fits.
        """
        file = WatchedFile(path, partial(_private_key, name), name="identity_key")
        file.load()
        return cls(name, file)

    @classmethod
    def of_setting(cls, name: str, path: Path) -> ServiceIdentity:
        """The same for a process that starts. Raises SettingsRefused."""
        with file_of("IDENTITY_KEY_FILE", path):
            return cls.from_file(name, path)

    def token_for(self, audience: str) -> str:
        """A token that tells `audience` who is calling."""
        return self._sign(SERVICE_TOKEN_TYPE, audience, {})

    def grant(self, *, user_id: UserId, provider: str, request_id: str) -> str:
        """A grant for one use of the user's key; keyvault honours it once."""
        claims = {"sub": str(user_id), "provider": provider, "req": request_id}
        return self._sign(GRANT_TYPE, "keyvault", claims)

    def _sign(self, type_: str, audience: str, claims: Mapping[str, Any]) -> str:
        now, signer = int(time.time()), self._current_signer()
        body = {
            **claims,
            "iss": self.name,
            "aud": audience,
            "iat": now,
            "exp": now + _LIFETIME_SECONDS,
            "jti": str(uuid7()),
        }
        return compact_jws.sign(signer.head(type_), body, signer.private)

    def _current_signer(self) -> _Signer:
        key = self._key.current()
        assert key is not None
        if self._signer is None or self._signer.key is not key:
            self._signer = _Signer(key)
        return self._signer


class _Signer:
    """A private key as it is used, with what each of its tokens begins with."""

    def __init__(self, key: ECKey) -> None:
        self.key = key
        private = key.private_key
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        self.private = private
        self._heads: dict[str, bytes] = {}

    def head(self, type_: str) -> bytes:
        head = self._heads.get(type_)
        if head is None:
            head = self._heads[type_] = compact_jws.signing_head(type_, str(self.key.kid))
        return head


def _private_key(service: str, pem: str) -> ECKey:
    try:
        key = ECKey.import_key(pem)
    except (JoseError, ValueError, TypeError) as error:  # also of a key of another kind
        raise UnusableFile(f"not a private key of EC {_CURVE}") from error
    if not key.is_private or key.curve_name != _CURVE:
        raise UnusableFile(f"not a private key of EC {_CURVE}")
    return ECKey.import_key(pem, {"kid": key_id(service, key)})


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key of a service, and when its service stopped using it."""

    service: str
    key: ECKey
    public: ec.EllipticCurvePublicKey
    retired_at: int | None = None  # Unix seconds

    def is_trusted(self, now: float) -> bool:
        """A retired key is good for as long as tokens of its last second may be under way."""
        return self.retired_at is None or now < self.retired_at + RETIRED_SECONDS


def trusted_keys(jwks: str) -> dict[str, TrustedKey]:
    """The keys of all services by key id. Raises ValueError."""
    try:
        entries = json.loads(jwks)["keys"]
        found = [_trusted_key(entry) for entry in entries]
    except (JoseError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableFile("not a JWKS of services") from error
    if not found:
        raise UnusableFile("no keys")
    # A key may stand in the file under its service's name alone, as older files have it.
    by_id = {key_id(known.service, known.key): known for known in found}
    return by_id | {str(known.key.kid): known for known in found}


def _trusted_key(entry: Mapping[str, Any]) -> TrustedKey:
    kid, retired_at = entry["kid"], entry.get("retired_at")
    key = ECKey.import_key({name: entry[name] for name in ("kty", "crv", "x", "y")}, {"kid": kid})
    service = service_of_key(kid)
    if kid not in (service, key_id(service, key)) or not service:
        raise UnusableFile("a key's id does not fit the key")
    if key.curve_name != _CURVE or type(retired_at) not in (int, type(None)):
        raise UnusableFile("a key is not of the expected form")
    # Reads the numbers: a damaged key fails here, not at somebody's call.
    public = key.public_key
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return TrustedKey(service, key, public, retired_at)


class Peers:
    """Verifies what other services signed for this one."""

    def __init__(self, audience: str, trusted: WatchedFile[dict[str, TrustedKey]]) -> None:
        self._audience = audience
        self._trusted = trusted

    @classmethod
    def from_file(cls, audience: str, path: Path) -> Peers:
        """Read the JWKS of all services, and again when it changes; a change that can't be used is
        ignored. Raises OSError or ValueError when it can't be used from the beginning."""
        file = WatchedFile(path, trusted_keys, name="identity_trust")
        file.load()
        return cls(audience, file)

    @classmethod
    def of_setting(cls, audience: str, path: Path) -> Peers:
        """The same for a process that starts. Raises SettingsRefused."""
        with file_of("IDENTITY_TRUST_FILE", path):
            return cls.from_file(audience, path)

    def service_of(self, token: str) -> str:
        """The name of the service that signed the token. Raises Unauthenticated."""
        return str(self._claims(token, SERVICE_TOKEN_TYPE)["iss"])

    def grant_of(self, token: str) -> Grant:
        """The grant that the token carries. Raises Unauthenticated, of it ServiceTokenExpired."""
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
        now = time.time()
        try:
            unverified = compact_jws.Unverified.read(token)
            known = self._key_named(unverified.head.get("kid"))
            # The key id names the service: a service can't sign in another's name.
            if known is None or not known.is_trusted(now):
                raise Unauthenticated("The service token was signed by an unknown key.")
            claims = unverified.claims(known.public)
        except compact_jws.NotSigned as error:
            raise Unauthenticated("The service token is not valid.") from error
        expires = claims.get("exp")
        if unverified.head.get("typ") != type_ or claims.get("aud") != self._audience:
            raise Unauthenticated("The service token was issued for another purpose.")
        if known.service != claims.get("iss"):
            raise Unauthenticated("The service token's issuer does not match its key.")
        if type(expires) is not int or expires > now + _LIFETIME_SECONDS + CLOCK_SKEW_SECONDS:
            raise Unauthenticated("The service token's end is not acceptable.")
        if expires <= now - CLOCK_SKEW_SECONDS:
            raise ServiceTokenExpired(known.service, now - expires)
        return claims

    def _key_named(self, key_id: object) -> TrustedKey | None:
        trusted = self._trusted.current()
        assert trusted is not None
        return trusted.get(key_id) if isinstance(key_id, str) else None
