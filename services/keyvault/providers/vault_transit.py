"""Key-encryption keys in the transit engine of HashiCorp Vault or OpenBao.

The versions are transit's own: `rotate` there adds one, `min_decryption_version` closes old ones.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.key_encryption import KekPlace
from services.keyvault.domain.keyring import KeyringRefused, KeyState
from shared.values import dataclass

# Those with 256 bits that take associated data.
_SUITABLE = frozenset({"aes256-gcm96", "chacha20-poly1305"})
# What transit says with a 400 that is about the key, and not about what it was sent.
_REASONS = {
    "too old": "keyring_lacks_a_version",
    "min_decryption_version": "keyring_lacks_a_version",
    # A new version was made a moment ago, and the one before is closed for what is new.
    "version for encryption": "keyring_lacks_a_version",
    "key not found": "kek_missing",
    "soft-deleted": "kek_disabled",  # OpenBao
}
_CIPHERTEXT = re.compile(rb"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/=]+\Z")


@dataclass(frozen=True, slots=True)
class TransitKey:
    """Which key, at which address, and who asks for it."""

    url: str
    token_file: Path
    key: str = "companion"
    mount: str = "transit"
    namespace: str | None = None
    ca_file: Path | None = None


class VaultTransit:
    """Speaks to transit through `hvac`."""

    name = "vault-transit"
    algorithm = b"\x02"

    def __init__(self, key: TransitKey, *, timeout_seconds: float) -> None:
        # Only whoever chose this provider has them installed.
        hvac: Any = import_module("hvac")
        requests: Any = import_module("requests")
        self._failures: Any = import_module("hvac.exceptions")
        self._key = key
        session = requests.Session()
        # Neither a proxy nor a password file of the machine has a say in where the token goes.
        session.trust_env = False
        session.verify = str(key.ca_file) if key.ca_file else True
        self._client = hvac.Client(
            url=key.url,
            namespace=key.namespace,
            timeout=timeout_seconds,
            session=session,
            allow_redirects=False,
        )
        self._names = {"name": key.key, "mount_point": key.mount}

    def versions(self) -> Mapping[int, KeyState]:
        with self._asked():
            key = self._client.secrets.transit.read_key(**self._names)["data"]
        if key["type"] not in _SUITABLE or key.get("derived"):
            raise KeyringRefused("kek_unsuitable")
        latest, oldest = int(key["latest_version"]), int(key["min_decryption_version"])
        states = dict.fromkeys(range(1, oldest), KeyState.CLOSED)
        states |= dict.fromkeys(range(oldest, latest), KeyState.RETIRED)
        return states | {latest: KeyState.ACTIVE}

    def encrypt(self, version: int, content: bytes, place: KekPlace) -> bytes:
        with self._asked():
            answer = self._client.secrets.transit.encrypt_data(
                plaintext=b64encode(content).decode(),
                associated_data=b64encode(place.bound_to).decode(),
                key_version=version,
                **self._names,
            )
        ciphertext: bytes = answer["data"]["ciphertext"].encode("ascii")
        if _version_of(ciphertext) != version:
            raise ValueError("transit encrypted with another version than it was asked for")
        return ciphertext

    def decrypt(self, version: int, ciphertext: bytes, place: KekPlace) -> bytes:
        if _version_of(ciphertext) != version:
            raise NotAuthentic("the ciphertext names another version, or none")
        try:
            with self._asked():
                answer = self._client.secrets.transit.decrypt_data(
                    ciphertext=ciphertext.decode("ascii"),
                    associated_data=b64encode(place.bound_to).decode(),
                    **self._names,
                )
        except self._failures.InvalidRequest as error:
            if not error.errors:  # not transit's own words, but somebody's on the way
                raise
            # "cipher: message authentication failed", "invalid ciphertext…" and their like.
            raise NotAuthentic("transit could not decrypt it") from None
        return b64decode(answer["data"]["plaintext"], validate=True)

    def reencrypt(
        self, version: int, ciphertext: bytes, place: KekPlace, to: int, new_place: KekPlace
    ) -> bytes:
        # Transit's own `rewrap` takes no associated data and fails on what was encrypted with some:
        # https://github.com/hashicorp/vault/issues/29532
        return self.encrypt(to, self.decrypt(version, ciphertext, place), new_place)

    def close(self) -> None:
        self._client.adapter.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        # Read each time: whoever renews the token (an agent, most likely) replaces the file.
        self._client.token = _token_in(self._key.token_file)
        try:
            yield
        except (self._failures.Forbidden, self._failures.Unauthorized):
            raise KeyringRefused("kek_forbidden") from None
        except self._failures.InvalidPath:
            raise KeyringRefused("kek_missing") from None
        except self._failures.InvalidRequest as error:
            text = " ".join(map(str, error.errors or ()))
            for words, reason in _REASONS.items():
                if words in text:
                    raise KeyringRefused(reason) from None
            raise


def _version_of(ciphertext: bytes) -> int | None:
    """None for what is no ciphertext of transit."""
    found = _CIPHERTEXT.match(ciphertext)
    return int(found[1]) if found else None


def _token_in(path: Path) -> str:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            token = os.read(file, 1 << 13).decode("ascii").strip()
        finally:
            os.close(file)
    except (OSError, UnicodeDecodeError):
        raise KeyringRefused("kek_credentials_missing") from None
    if not token or not token.isprintable():
        raise KeyringRefused("kek_credentials_missing")
    return token
