"""Tell everyone which keys our tokens are signed with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from services.auth.domain.ports import SigningKeySource
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class PublishSigningKeys:
    """The public keys that sign, will sign, or signed a short while ago, as a JWKS."""

    keys: SigningKeySource
    kept: timedelta
    clock: Clock

    def __call__(self) -> Mapping[str, Any]:
        """Raises SigningKeysUnavailable."""
        return self.keys.current().public(self.clock.now(), kept=self.kept)
