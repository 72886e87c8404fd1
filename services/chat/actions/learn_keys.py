"""Keep what keyvault tells about users' keys."""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.domain.known_key import KnownKey
from services.chat.domain.ports import NewUnitOfWork
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class LearnKeys:
    """Remember the vendors' word on keys; of one key the highest version counts, so that facts
    may come twice and in any order. Nothing is remembered of a user who was deleted."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, keys: Sequence[KnownKey]) -> None:
        async with self.unit_of_work() as work:
            gone = await work.forgotten.among([key.user_id for key in keys])
            await work.known_keys.remember([key for key in keys if key.user_id not in gone])
