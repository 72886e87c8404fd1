"""Canaries: what proves that a keyring is the one which sealed the data in this database."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.keyvault.domain.envelope import CanaryPlace, NotAuthentic, seal, unseal
from services.keyvault.domain.fields import encode_fields
from services.keyvault.domain.keyring import Keyring, KeyringRefused

_SONG = b"the keyvault of this database"


class Purpose(StrEnum):
    """Which kind of key a canary vouches for."""

    WRAPPING = "wrapping"
    FINGERPRINT = "fingerprint"


@dataclass(frozen=True, slots=True)
class Canary:
    """What one version of the keyring made when it came into use."""

    purpose: Purpose
    version: int
    proof: bytes


def canaries_of(keyring: Keyring) -> list[Canary]:
    """A canary for each key of the keyring."""
    return [
        *(
            Canary(Purpose.WRAPPING, version, seal(key, _place(keyring, version), _SONG))
            for version, key in keyring.keys.items()
        ),
        *(
            Canary(Purpose.FINGERPRINT, version, _tag(keyring, version))
            for version in keyring.fingerprint_keys
        ),
    ]


def prove(keyring: Keyring, canaries: Sequence[Canary]) -> None:
    """Check the keyring against every canary.

    Raises KeyringRefused when it lacks a version, when a key is another than it was, or when the
    keys for new seals have no canary yet.
    """
    for canary in canaries:
        _check(keyring, canary)
    known = {(canary.purpose, canary.version) for canary in canaries}
    in_use = {
        (Purpose.WRAPPING, keyring.active),
        (Purpose.FINGERPRINT, keyring.active_fingerprint),
    }
    if not in_use <= known:
        raise KeyringRefused("canary_missing")


def _check(keyring: Keyring, canary: Canary) -> None:
    keys = keyring.keys if canary.purpose is Purpose.WRAPPING else keyring.fingerprint_keys
    if canary.version not in keys:
        raise KeyringRefused("keyring_lacks_a_version")
    if not _fits(keyring, canary):
        raise KeyringRefused("keyring_of_another_database")


def _fits(keyring: Keyring, canary: Canary) -> bool:
    if canary.purpose is Purpose.FINGERPRINT:
        return hmac.compare_digest(_tag(keyring, canary.version), canary.proof)
    key = keyring.keys[canary.version]
    try:
        return unseal(key, _place(keyring, canary.version), canary.proof) == _SONG
    except NotAuthentic:
        return False


def _place(keyring: Keyring, version: int) -> CanaryPlace:
    return CanaryPlace(keyring.environment, version)


def _tag(keyring: Keyring, version: int) -> bytes:
    message = encode_fields("kv1.fp-canary", keyring.environment, version)
    return hmac.new(keyring.fingerprint_keys[version], message, hashlib.sha256).digest()
