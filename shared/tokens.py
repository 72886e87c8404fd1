"""The access token's format: signed by auth, verified by everyone.

ES256 over a JWT of type `at+jwt` (RFC 9068). Checked here and not left to the gateway: signature,
algorithm, type, issuer, audience, expiry and the presence of every claim that we rely on.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from shared.errors import Unauthenticated
from shared.ids import UserId
from shared.values import dataclass

ALGORITHM = "ES256"
ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type
CLOCK_SKEW_SECONDS = 10
PERSONAL = "pat"
"""The method of an access token that stands for a personal token, for one request of a program."""

_MAX_TOKEN_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, as their access token proves it."""

    user_id: UserId
    tier: str
    role: str
    organisation_id: UUID | None
    scopes: frozenset[str]
    sign_in_id: UUID
    expires_at: int  # Unix seconds
    issued_at: int  # Unix seconds
    # How and when the person last proved who they are (RFC 9068, RFC 8176): `pwd`, `otp`,
    # `recovery`, or `pat` for a program that holds a personal token.
    authenticated_at: int = 0
    methods: frozenset[str] = frozenset()
    has_second_factor: bool = False
    # Whether they had one of its seats when the token was made.
    has_seat: bool = False

    @property
    def is_program(self) -> bool:
        """Whether a personal token was shown. The gateway has just asked auth about that."""
        return PERSONAL in self.methods

    @property
    def served_by(self) -> UUID | None:
        """The organisation whose keys they may use, where they have none of their own."""
        return self.organisation_id if self.has_seat else None


class VerificationKeys(Protocol):
    """The public keys that may have signed a token, newest known."""

    version: int

    async def current(self) -> KeySet:
        """Raises Unavailable when no key was ever seen and none can be fetched."""
        ...

    async def refreshed_for(self, _key_id: str) -> KeySet:
        """The keys after looking again, at most once in a while, for a key id not yet seen."""
        ...


def sign_access_token(
    key: ECKey, claims: Mapping[str, Any], *, issued_at: int, lifetime_seconds: int
) -> str:
    """A compact JWS over the claims plus `iat` and `exp` (Unix seconds)."""
    header = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": key.kid}
    body = {**claims, "iat": issued_at, "exp": issued_at + lifetime_seconds}
    return jwt.encode(header, body, key, algorithms=[ALGORITHM])


class TokenVerifier:
    """Verifies access tokens, remembering those it has seen until they expire.

    The memory is keyed by the token's hash, bounded, and dropped whenever the key set changes, so
    that a removed signing key ends its tokens at once.
    """

    def __init__(
        self, keys: VerificationKeys, *, issuer: str, audience: str, remember: int = 20_000
    ) -> None:
        self._keys = keys
        self._remember = remember
        self._seen: OrderedDict[bytes, Identity] = OrderedDict()
        self._seen_with = -1
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str) -> Identity:
        """The identity that the token proves.

        Raises Unauthenticated for a bad token, Unavailable when no key can be had to check it.
        """
        if len(token) > _MAX_TOKEN_BYTES:
            raise Unauthenticated("The access token is too long.")
        keys = await self._keys.current()
        if self._seen_with != self._keys.version:
            self._seen.clear()
            self._seen_with = self._keys.version
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._seen.get(digest)
        if known is not None:
            if known.expires_at + CLOCK_SKEW_SECONDS <= time.time():
                del self._seen[digest]
                raise Unauthenticated("The access token has expired.")
            return known
        identity = await self._check(token, keys)
        self._seen[digest] = identity
        if len(self._seen) > self._remember:
            self._seen.popitem(last=False)
        return identity

    async def _check(self, token: str, keys: KeySet) -> Identity:
        try:
            decoded = self._decode(token, keys)
        except _UnknownKey as unknown:
            keys = await self._keys.refreshed_for(unknown.key_id)
            try:
                decoded = self._decode(token, keys)
            except _UnknownKey as still:
                raise Unauthenticated("The access token is not valid.") from still
        if decoded.header.get("typ") != ACCESS_TOKEN_TYPE:
            raise Unauthenticated("The token is no access token.")
        claims = decoded.claims
        _check_times(claims)
        if claims.get("iss") != self._issuer or claims.get("aud") != self._audience:
            raise Unauthenticated("The access token was issued for somebody else.")
        try:
            return _identity(claims)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unauthenticated("The access token lacks a claim.") from error

    @staticmethod
    def _decode(token: str, keys: KeySet) -> jwt.Token:
        try:
            header = _header_of(token)
            key_id = header.get("kid")
            if not isinstance(key_id, str) or "crit" in header:
                # We know no extension, so none that the signer calls critical either.
                raise Unauthenticated("The access token names no key, or asks too much.")
            if all(key.kid != key_id for key in keys.keys):
                raise _UnknownKey(key_id)
            return jwt.decode(token, keys, algorithms=[ALGORITHM], decoder_cls=_EachNameOnce)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Unauthenticated("The access token is not valid.") from error


class _UnknownKey(Exception):
    def __init__(self, key_id: str) -> None:
        self.key_id = key_id


class _EachNameOnce(json.JSONDecoder):
    """Of two claims of one name, one parser takes the first and another the last: we take none."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_each_name_once)


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _header_of(token: str) -> dict[str, Any]:
    segment = token.encode("ascii").partition(b".")[0]
    header = json.loads(urlsafe_b64decode(segment + b"=="), cls=_EachNameOnce)
    if not isinstance(header, dict):
        raise TypeError("no object")
    return header


def _check_times(claims: Mapping[str, Any]) -> None:
    expires, issued, now = claims.get("exp"), claims.get("iat"), time.time()
    if type(expires) is not int or type(issued) is not int:
        raise Unauthenticated("The access token has no expiry.")
    if expires + CLOCK_SKEW_SECONDS <= now:
        raise Unauthenticated("The access token has expired.")
    if issued - CLOCK_SKEW_SECONDS > now:
        raise Unauthenticated("The access token is not valid yet.")


def _identity(claims: Mapping[str, Any]) -> Identity:
    if "jti" not in claims:
        raise KeyError("jti")
    organisation = claims.get("org")
    return Identity(
        user_id=UserId(UUID(claims["sub"])),
        tier=str(claims["tier"]),
        role=str(claims["role"]),
        organisation_id=UUID(organisation) if organisation else None,
        scopes=frozenset(claims.get("scope", "").split()),
        sign_in_id=UUID(claims["sid"]),
        expires_at=claims["exp"],
        issued_at=claims["iat"],
        authenticated_at=_moment(claims.get("auth_time")),
        methods=frozenset(map(str, claims.get("amr") or ())),
        has_second_factor=claims.get("mfa") is True,
        has_seat=claims.get("org_seated") is True,
    )


def _moment(claim: object) -> int:
    return claim if type(claim) is int else 0
