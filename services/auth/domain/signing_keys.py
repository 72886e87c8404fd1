"""The keys that sign access tokens and the peppers of refresh tokens, as one file holds them.

    {"keys": [<private JWK, EC P-256, with kid, use, alg and "state">],
     "refresh_peppers": [{"version": 1, "pepper": "<base64, 32 bytes>"}]}

A key goes through standby (published, not yet used), active (signs), retiring (published until its
last token has expired) and removed (not published: its tokens are void). Exactly one is active.
"""

from __future__ import annotations

import binascii
import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.auth.domain.errors import RefreshRefused
from shared.tokens import ALGORITHM

_CURVE = "P-256"
_PEPPER_BYTES = 32


class KeyState(StrEnum):
    """Where a signing key is on its way."""

    STANDBY = "standby"
    ACTIVE = "active"
    RETIRING = "retiring"
    REMOVED = "removed"


class UnusableSigningKeys(ValueError):
    """The file can't be used; the message says why and holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """What the file says, checked."""

    active: ECKey = field(repr=False)
    published: Sequence[ECKey] = field(repr=False)
    peppers: Mapping[int, bytes] = field(repr=False)

    @property
    def newest_pepper(self) -> int:
        """The version that new sign-ins use, and keep."""
        return max(self.peppers)

    def pepper(self, version: int) -> bytes:
        """Raises RefreshRefused when this version was taken out: its sign-ins are over."""
        if version not in self.peppers:
            raise RefreshRefused
        return self.peppers[version]

    def public(self) -> dict[str, Any]:
        """The JWKS that everyone verifies with."""
        return {"keys": [key.as_dict(private=False) for key in self.published]}


def new_signing_keys() -> dict[str, Any]:
    """The content of a new file. Called by the explicit step that creates it, and by nobody else:
    a second file would sign everyone out and hide that the first one was lost."""
    key = ECKey.generate_key(_CURVE, {"use": "sig", "alg": ALGORITHM})
    entry = {**key.as_dict(private=True), "kid": key.thumbprint(), "state": KeyState.ACTIVE.value}
    pepper = b64encode(secrets.token_bytes(_PEPPER_BYTES)).decode()
    return {"keys": [entry], "refresh_peppers": [{"version": 1, "pepper": pepper}]}


def parse_signing_keys(text: str) -> SigningKeys:
    """Read the file's text. Raises UnusableSigningKeys."""
    document = _read(text)
    try:
        entries = [(_state_of(entry), _key_of(entry)) for entry in document["keys"]]
        peppers = [_pepper_of(entry) for entry in document["refresh_peppers"]]
    except (JoseError, KeyError, TypeError, AttributeError) as error:
        raise UnusableSigningKeys("the file is not of the expected form") from error
    active = [key for state, key in entries if state is KeyState.ACTIVE]
    if len(active) != 1:
        raise UnusableSigningKeys(f"{len(active)} keys are active instead of one")
    if len({key.kid for _, key in entries}) != len(entries):
        raise UnusableSigningKeys("two keys have the same kid")
    if not peppers or len(dict(peppers)) != len(peppers):
        raise UnusableSigningKeys("each version of the refresh pepper is needed once")
    published = [key for state, key in entries if state is not KeyState.REMOVED]
    return SigningKeys(active[0], published, dict(peppers))


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableSigningKeys("the file is no JSON") from error


def _state_of(entry: Mapping[str, Any]) -> KeyState:
    try:
        return KeyState(entry["state"])
    except ValueError as error:
        raise UnusableSigningKeys("a key has an unknown state") from error


def _key_of(entry: Mapping[str, Any]) -> ECKey:
    kid = entry["kid"]
    if not isinstance(kid, str) or not kid:
        raise UnusableSigningKeys("a key has no kid")
    if entry.get("use", "sig") != "sig" or entry.get("alg", ALGORITHM) != ALGORITHM:
        raise UnusableSigningKeys("a key is meant for another purpose")
    parts = {name: entry[name] for name in ("kty", "crv", "x", "y", "d")}
    if (parts["kty"], parts["crv"]) != ("EC", _CURVE):
        raise UnusableSigningKeys("a key is not of EC P-256")
    try:
        key = ECKey.import_key(parts, {"kid": kid, "use": "sig", "alg": ALGORITHM})
        # Reads the numbers; a key whose halves don't belong together fails here, not at sign-in.
        key.private_key  # noqa: B018
    except ValueError as error:
        raise UnusableSigningKeys("a key is damaged") from error
    return key


def _pepper_of(entry: Mapping[str, Any]) -> tuple[int, bytes]:
    version = entry["version"]
    if type(version) is not int or version < 1:
        raise UnusableSigningKeys("a refresh pepper has no version")
    try:
        pepper = b64decode(entry["pepper"], validate=True)
    except binascii.Error as error:
        raise UnusableSigningKeys("a refresh pepper is no base64") from error
    if len(pepper) != _PEPPER_BYTES:
        raise UnusableSigningKeys(f"a refresh pepper is not of {_PEPPER_BYTES} bytes")
    return version, pepper
