"""Who speaks beside the vendor."""

from __future__ import annotations

from collections.abc import Sequence

from services.voice.domain.offline_engine import OfflineEngine
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListEngines:
    """The engines on our own machine; none unless the operator has switched one on."""

    offline: OfflineEngine | None
    falls_back: bool = False
    """Whether it speaks for who has no usable key without being asked to."""

    def __call__(self) -> Sequence[OfflineEngine]:
        return [] if self.offline is None else [self.offline]
