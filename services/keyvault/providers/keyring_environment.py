"""The keyring in an environment variable: for development and tests, where there are no files.

Whoever may look at the process reads it, and so does each of its children: a production deployment
is refused.
"""

from __future__ import annotations

from services.keyvault.domain.key_encryption import KeyringEncryption
from services.keyvault.domain.keyring import KeyringRefused, read_keyring
from services.keyvault.providers.keyring_file import parsed


class KeyringEnvironment:
    """Reads the keyring from what the variable held when the process started."""

    def __init__(self, content: str | None, *, environment: str) -> None:
        self._content = content
        self._environment = environment

    async def read(self) -> KeyringEncryption:
        """Raises KeyringRefused."""
        if self._environment == "production":
            raise KeyringRefused("keyring_not_for_production")
        if not self._content:
            raise KeyringRefused("keyring_missing")
        return KeyringEncryption(read_keyring(parsed(self._content)), name="env")
