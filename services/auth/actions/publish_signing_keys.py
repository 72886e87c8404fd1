"""Tell everyone which keys our tokens are signed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.auth.domain.ports import SigningKeySource


@dataclass(frozen=True, slots=True)
class PublishSigningKeys:
    """The public keys of every state but removed, as a JWKS."""

    keys: SigningKeySource

    def __call__(self) -> Mapping[str, Any]:
        """Raises SigningKeysUnavailable."""
        return self.keys.current().public()
