"""Secrets in a backup: one file that only a passphrase opens.

Format: `TTCB1` ‖ salt, 16 bytes ‖ nonce, 12 bytes ‖ AES-256-GCM of the content and its tag. The key
is scrypt of the passphrase. What the file belongs to is associated data: the digests of all other
files of its backup, so that none of them can be exchanged by somebody without the passphrase.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from deploy.companion.errors import CompanionError

_MAGIC = b"TTCB1"
_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 16, 12, 32
# 128 MiB and some 0.3 s for each guess (RFC 7914: r=8, p=1).
_COST = 1 << 17
SHORTEST_PASSPHRASE = 16


def check_passphrase(passphrase: str) -> None:
    """Raises CompanionError for one that could be guessed."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise CompanionError(
            f"The passphrase is shorter than {SHORTEST_PASSPHRASE} characters.",
            "Let a password manager make one, and keep it apart from the backups.",
        )


def seal(content: bytes, passphrase: str, belongs_to: bytes) -> bytes:
    """Raises CompanionError for a passphrase that could be guessed."""
    check_passphrase(passphrase)
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(passphrase, salt)).encrypt(nonce, content, _MAGIC + belongs_to)
    return _MAGIC + salt + nonce + sealed


def unseal(sealed: bytes, passphrase: str, belongs_to: bytes) -> bytes:
    """Raises CompanionError for a wrong passphrase, another backup's secrets or a changed file."""
    salt_end = len(_MAGIC) + _SALT_BYTES
    nonce_end = salt_end + _NONCE_BYTES
    if not sealed.startswith(_MAGIC) or len(sealed) < nonce_end:
        raise CompanionError("The file of sealed secrets is none of ours, or was cut off.")
    key = _key(passphrase, sealed[len(_MAGIC) : salt_end])
    try:
        return AESGCM(key).decrypt(
            sealed[salt_end:nonce_end], sealed[nonce_end:], _MAGIC + belongs_to
        )
    except InvalidTag as error:
        raise CompanionError(
            "The secrets do not open: the passphrase is another, or a file of this backup is not "
            "the one that was backed up.",
            "Use the passphrase of that day; if it is right, don't trust this backup.",
        ) from error


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=_KEY_BYTES, n=_COST, r=8, p=1).derive(passphrase.encode())
