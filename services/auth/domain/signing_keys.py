"""The keys that sign access tokens and the peppers of refresh tokens, as one file holds them.

    {"keys": [<private JWK, EC P-256, with kid, use, alg, "state", and since when in Unix seconds:
               "published_at", "activated_at", "retired_at", "removed_at">],
     "refresh_peppers": [{"version": 1, "pepper": "<base64, 32 bytes>"}],
     "sealing_keys": [{"version": 1, "key": "<base64, 32 bytes>"}],
     "audit_keys": [{"version": 1, "key": "<base64, 32 bytes>"}]}

A key goes through standby (published, not yet used), active (signs), retiring (published until its
last token has expired) and removed (not published: its tokens are void). Exactly one is active.
How they follow each other is in `key_rotation.py`. A version of the others may have a "from", also
in Unix seconds: until then everybody gets to know it, and nothing new is made with it.
"""

from __future__ import annotations

import binascii
import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.auth.domain.errors import RefreshRefused
from services.auth.domain.key_rotation import KeyLine
from services.auth.domain.signing_key import KeyState, SigningKey, UnusableSigningKeys
from shared.clock import SystemClock
from shared.sealing import KeysByVersion, newest
from shared.values import dataclass

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """What the file says, checked."""

    line: KeyLine
    peppers: Mapping[int, bytes] = field(repr=False)
    sealing_keys: Mapping[int, bytes] = field(repr=False)
    audit_keys: Mapping[int, bytes] = field(repr=False)

    @property
    def active(self) -> ECKey:
        """The key that signs."""
        return self.line.active.pair

    @property
    def newest_pepper(self) -> int:
        """The version that new sign-ins use, and keep."""
        return newest(self.peppers)

    def pepper(self, version: int) -> bytes:
        """Raises RefreshRefused when this version was taken out: its sign-ins are over."""
        if version not in self.peppers:
            raise RefreshRefused
        return self.peppers[version]

    def public(self, at: datetime, *, kept: timedelta) -> dict[str, Any]:
        """The JWKS that everyone verifies with; a retiring key is in it until `kept` has passed."""
        shown = [key.pair for key in self.line.keys if key.is_published(at, kept=kept)]
        return {"keys": [pair.as_dict(private=False) for pair in shown]}


def new_signing_keys(at: datetime | None = None) -> dict[str, Any]:
    """The content of a new file. Called by the explicit step that creates it, and by nobody else:
    a second file would sign everyone out and hide that the first one was lost."""
    line = KeyLine.new(at or SystemClock().now())
    return {
        "keys": [key.to_entry() for key in line.keys],
        "refresh_peppers": [{"version": 1, "pepper": _new_secret()}],
        "sealing_keys": [{"version": 1, "key": _new_secret()}],
        "audit_keys": [{"version": 1, "key": _new_secret()}],
    }


def _new_secret() -> str:
    return b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def parse_signing_keys(text: str) -> SigningKeys:
    """Read the file's text. Raises UnusableSigningKeys."""
    document = _read(text)
    try:
        keys = tuple(SigningKey.from_entry(entry) for entry in document["keys"])
        peppers = _versions(document["refresh_peppers"], "pepper", "refresh pepper")
        sealing_keys = _versions(document["sealing_keys"], "key", "sealing key")
        audit_keys = _versions(document["audit_keys"], "key", "audit key")
    except (JoseError, KeyError, TypeError, AttributeError) as error:
        raise UnusableSigningKeys("the file is not of the expected form") from error
    active = [key for key in keys if key.state is KeyState.ACTIVE]
    if len(active) != 1:
        raise UnusableSigningKeys(f"{len(active)} keys are active instead of one")
    if len({key.kid for key in keys}) != len(keys):
        raise UnusableSigningKeys("two keys have the same kid")
    return SigningKeys(KeyLine(keys), peppers, sealing_keys, audit_keys)


def with_other_keys(text: str, change: Callable[[KeyLine], KeyLine]) -> tuple[str, KeyLine]:
    """The file's text after a change of its signing keys; all else in it stays as it is.

    Raises UnusableSigningKeys, and what `change` raises.
    """
    line = change(parse_signing_keys(text).line)
    before = _read(text)
    after = {**before, "keys": [key.to_entry() for key in line.keys]}
    return (text if after == before else json.dumps(after, indent=2) + "\n"), line


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableSigningKeys("the file is no JSON") from error


def _versions(entries: Sequence[Mapping[str, Any]], field: str, name: str) -> KeysByVersion:
    secrets_ = dict(_version(entry, field, name) for entry in entries)
    if not secrets_ or len(secrets_) != len(entries):
        raise UnusableSigningKeys(f"each version of the {name} is needed once")
    try:
        return KeysByVersion.of(secrets_, list(entries))
    except (TypeError, ValueError) as error:
        raise UnusableSigningKeys(f"a {name} has no moment from which it is used") from error


def _version(entry: Mapping[str, Any], field: str, name: str) -> tuple[int, bytes]:
    version = entry["version"]
    if type(version) is not int or version < 1:
        raise UnusableSigningKeys(f"a {name} has no version")
    try:
        secret = b64decode(entry[field], validate=True)
    except binascii.Error as error:
        raise UnusableSigningKeys(f"a {name} is no base64") from error
    if len(secret) != _SECRET_BYTES:
        raise UnusableSigningKeys(f"a {name} is not of {_SECRET_BYTES} bytes")
    return version, secret
