"""Take a signing key out at once. For the console: no route leads here."""

from __future__ import annotations

from services.auth.domain.key_rotation import KeyLine, RotationPace
from services.auth.domain.ports import SigningKeyStore
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RemoveSigningKey:
    """For a key that somebody else may have: its tokens are void, whoever holds them."""

    keys: SigningKeyStore
    pace: RotationPace
    clock: Clock

    def __call__(self, kid: str) -> KeyLine:
        """Raises NoSuchSigningKey."""
        return self.keys.change(lambda line: line.without(kid, at=self.clock.now(), pace=self.pace))
