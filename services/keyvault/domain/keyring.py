"""The keyring: versioned keys that data keys are wrapped with, and the keys of fingerprints.

It is made once, by an explicit step (`new_keyring_document`), and kept outside the database and its
backups. The service only reads it: it never makes one, and never goes on without one.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from services.keyvault.domain.envelope import KEY_BYTES
from shared.values import dataclass

_ENVIRONMENT = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_FEWEST_DISTINCT_BYTES = 12  # 32 random bytes have fewer with a probability below 1e-20

# Keys that stand in standards and tutorials: AES-256 of NIST SP 800-38A and of its GCM test
# vectors, and the SHA-256 of nothing. Patterns such as 00 01 02 … are recognised without a list.
_PUBLISHED = frozenset(
    {
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        hashlib.sha256(b"").hexdigest(),
    }
)


class KeyringRefused(Exception):
    """There is no keyring that we dare to use; `reason` is one of a small set of words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeyState(StrEnum):
    """What a version of the keyring is for."""

    STANDBY = "standby"  # known to all replicas, not used yet
    ACTIVE = "active"  # wraps new data keys
    RETIRED = "retired"  # opens what it wrapped before
    CLOSED = "closed"  # opens nothing more; may leave the file once no backup needs it


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """The keys by version. `active` wraps what is new; all open what they wrapped.

    A closed version is among the states, but its key is not here.
    """

    environment: str
    active: int
    keys: Mapping[int, bytes]
    fingerprint_keys: Mapping[int, bytes]
    states: Mapping[int, KeyState] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Keyring with versions {sorted(self.keys)}>"


def new_keyring_document() -> dict[str, Any]:
    """A fresh keyring, as its file holds it. For the explicit step that creates one, only."""
    return {
        # Bound into every seal, so that data of one installation can't be moved into another.
        "environment": secrets.token_hex(16),
        "active": 1,
        "keys": [new_key_entry(1, KeyState.ACTIVE)],
        "fingerprint_keys": [{"version": 1, "key": _new_key()}],
    }


def new_key_entry(version: int, state: KeyState) -> dict[str, Any]:
    """A fresh key that wraps data keys, as the file holds it."""
    return {"version": version, "key": _new_key(), "state": state.value}


def read_keyring(document: Any) -> Keyring:
    """The keyring that a document holds. Raises KeyringRefused, which never quotes it."""
    try:
        environment, active = document["environment"], document["active"]
        rows, fingerprint_rows = list(document["keys"]), list(document["fingerprint_keys"])
        keys, fingerprint_keys = _by_version(rows), _by_version(fingerprint_rows)
        states = {row["version"]: KeyState(row["state"]) for row in rows}
    except (TypeError, KeyError, ValueError) as error:
        raise KeyringRefused("keyring_malformed") from error
    if type(active) is not int or not isinstance(environment, str):
        raise KeyringRefused("keyring_malformed")
    if not _ENVIRONMENT.match(environment):
        raise KeyringRefused("keyring_malformed")
    if not fingerprint_keys or states.get(active) is not KeyState.ACTIVE:
        raise KeyringRefused("keyring_without_active_key")
    if list(states.values()).count(KeyState.ACTIVE) > 1:
        raise KeyringRefused("keyring_malformed")
    _refuse_shared([*keys.values(), *fingerprint_keys.values()])
    usable = {v: key for v, key in keys.items() if states[v] is not KeyState.CLOSED}
    return Keyring(environment, active, usable, fingerprint_keys, states)


def _by_version(rows: Iterable[Any]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for row in rows:
        version = row["version"]
        if type(version) is not int or not 1 <= version < 2**31 or version in found:
            raise KeyringRefused("keyring_malformed")
        found[version] = _usable_key(row["key"])
    return found


def _usable_key(text: Any) -> bytes:
    if not isinstance(text, str):
        raise KeyringRefused("keyring_malformed")
    key = b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise KeyringRefused("key_of_wrong_length")
    if is_example(key):
        raise KeyringRefused("key_is_an_example")
    return key


def _refuse_shared(keys: list[bytes]) -> None:
    # Each key is a root of its own: one that serves two purposes weakens both.
    if any(hmac.compare_digest(a, b) for i, a in enumerate(keys) for b in keys[:i]):
        raise KeyringRefused("key_used_twice")


def is_example(key: bytes) -> bool:
    """Whether a key is one that no random generator would have made."""
    steps = {(after - before) % 256 for before, after in itertools.pairwise(key)}
    return (
        len(steps) == 1  # all the same byte, or a sequence
        or len(set(key)) < _FEWEST_DISTINCT_BYTES  # short patterns, repeated
        or key[:16] == key[16:]
        or all(0x20 <= byte < 0x7F for byte in key)  # a password, typed where a key belongs
        or key.hex() in _PUBLISHED
    )


def _new_key() -> str:
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()
