"""The vault: open while proven roots lie in it, sealed otherwise."""

from __future__ import annotations

from uuid import UUID

from services.keyvault.domain.errors import VaultSealed
from services.keyvault.domain.roots import Roots


class Vault:
    """What every use of a key goes through; one per process."""

    def __init__(self) -> None:
        self._roots: Roots | None = None
        self.sealed_because: str | None = "not_examined"

    @property
    def roots(self) -> Roots:
        """The proven roots. Raises VaultSealed."""
        if self._roots is None:
            raise VaultSealed
        return self._roots

    @property
    def is_sealed(self) -> bool:
        return self._roots is None

    def open(self, roots: Roots) -> None:
        """Put roots in that were proven against the canaries."""
        self._roots, self.sealed_because = roots, None

    def seal(self, reason: str) -> None:
        """Take the roots out: from now on nothing is sealed or opened."""
        self.forget()
        self._roots, self.sealed_because = None, reason

    def forget(self, owner_id: UUID | None = None) -> None:
        """Wipe the data keys that this process keeps unwrapped, of one owner or of all."""
        if self._roots is not None:
            self._roots.kek.forget(owner_id)

    async def check(self) -> None:
        """Raises VaultSealed while it is."""
        _ = self.roots
