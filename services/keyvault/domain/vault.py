"""The vault: open while a proven keyring lies in it, sealed otherwise."""

from __future__ import annotations

from services.keyvault.domain.errors import VaultSealed
from services.keyvault.domain.keyring import Keyring


class Vault:
    """What every use of a key goes through; one per process."""

    def __init__(self) -> None:
        self._keyring: Keyring | None = None
        self.sealed_because: str | None = "not_examined"

    @property
    def keyring(self) -> Keyring:
        """The proven keyring. Raises VaultSealed."""
        if self._keyring is None:
            raise VaultSealed
        return self._keyring

    @property
    def is_sealed(self) -> bool:
        return self._keyring is None

    def open(self, keyring: Keyring) -> None:
        """Put a keyring in that was proven against the canaries."""
        self._keyring, self.sealed_because = keyring, None

    def seal(self, reason: str) -> None:
        """Take the keyring out: from now on nothing is sealed or opened."""
        self._keyring, self.sealed_because = None, reason

    async def check(self) -> None:
        """Raises VaultSealed while it is."""
        _ = self.keyring
