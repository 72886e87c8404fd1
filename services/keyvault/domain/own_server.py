"""An operator's own server, which users reach without a key of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from uuid import UUID

from shared.values import dataclass

NO_KEY = UUID(int=0)
"""What the trail names where no stored key was used."""


@dataclass(frozen=True, slots=True)
class OwnServer:
    """`api_key` is the operator's and serves everybody; None where the server wants none."""

    provider: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """What a call to it carries."""
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
