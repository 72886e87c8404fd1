"""Webhooks in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class Told:
    """A message that was written for whoever listens."""

    holder: UserId
    type: str
    data: Mapping[str, Any] = field(repr=False)
    effect_key: str


class MemoryWebhooks:
    """Remembers what was told, each effect once."""

    def __init__(self, told: list[Told]) -> None:
        self._told = told

    async def tell(
        self, holder: UserId, type_: str, data: Mapping[str, Any], *, effect_key: str
    ) -> None:
        if effect_key not in {one.effect_key for one in self._told}:
            self._told.append(Told(holder, type_, data, effect_key))

    async def forget(self, holder: UserId) -> None:
        self._told[:] = [one for one in self._told if one.holder != holder]
