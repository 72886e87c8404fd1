"""Let the next signing key take over. For the console: no route leads here."""

from __future__ import annotations

from functools import partial

from services.auth.domain.key_rotation import KeyLine, RotationPace
from services.auth.domain.ports import SigningKeyStore
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RotateSigningKey:
    """The standby signs, the active key retires, and a new standby is shown."""

    keys: SigningKeyStore
    pace: RotationPace
    clock: Clock

    def __call__(self) -> KeyLine:
        """Raises StandbyTooYoung; then at least a standby is there, whose time has begun."""
        self.keys.change(partial(KeyLine.tidied, at=self.clock.now(), pace=self.pace))
        return self.keys.change(partial(KeyLine.rotated, at=self.clock.now(), pace=self.pace))
