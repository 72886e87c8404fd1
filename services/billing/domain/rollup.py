"""Sums that are kept, compared with what they are sums of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RollupCheck:
    """When all sums of the time before `up_to` were compared, and how many did not fit."""

    checked_at: datetime
    up_to: datetime
    compared: int
    drifts: int


@dataclass(frozen=True, slots=True)
class Drift:
    """Sums of one hour or day that are not what the ledger says."""

    id: int
    rollup: Literal["hour", "day"]
    user_id: UserId
    begins: datetime
    provider: str
    model: str
    operation: str
    sandbox: bool
    kept: Mapping[str, int]
    due: Mapping[str, int]
    found_at: datetime
    repaired_at: datetime | None = None

    @property
    def missing(self) -> dict[str, int]:
        """What has to be added to the kept sums."""
        return {name: self.due[name] - kept for name, kept in self.kept.items()}
