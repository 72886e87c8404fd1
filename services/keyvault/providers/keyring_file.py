"""The keyring in a file: a mounted secret, or the one of the embedded default."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

from services.keyvault.domain.key_encryption import KeyringEncryption
from services.keyvault.domain.keyring import Keyring, KeyringRefused, read_keyring

_LARGEST_BYTES = 1 << 16


class KeyringFile:
    """Reads the keyring, and refuses a file that anybody but us could have read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> KeyringEncryption:
        """Raises KeyringRefused."""
        return KeyringEncryption(await asyncio.to_thread(self._read))

    def _read(self) -> Keyring:
        try:
            return read_keyring(parsed(self._content()))
        except FileNotFoundError as error:
            raise KeyringRefused("keyring_missing") from error
        except OSError as error:
            raise KeyringRefused("keyring_unreadable") from error

    def _content(self) -> bytes:
        # Non-blocking, so that a pipe put in its place can't hold us up.
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _refuse_unsafe(os.fstat(file))
            return os.read(file, _LARGEST_BYTES)
        finally:
            os.close(file)


def _refuse_unsafe(found: os.stat_result) -> None:
    # Checked on the open file, not on its name: nothing can be put in between.
    if not stat.S_ISREG(found.st_mode):
        raise KeyringRefused("keyring_unreadable")
    if found.st_uid not in (os.geteuid(), 0):
        raise KeyringRefused("keyring_of_another_user")
    if stat.S_IMODE(found.st_mode) & ~_safe_modes(found):
        raise KeyringRefused("keyring_open_to_others")


def _safe_modes(found: os.stat_result) -> int:
    # Kubernetes mounts a Secret as root's and lets its pod's group read it (fsGroup, 0440).
    is_lent = found.st_uid != os.geteuid() and found.st_gid in (os.getegid(), *os.getgroups())
    return 0o640 if is_lent else 0o600


def parsed(content: bytes | str) -> object:
    """The document of a keyring. Raises KeyringRefused, which does not quote it."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise KeyringRefused("keyring_malformed") from error
