"""Keep what a user chooses for all their turns."""

from __future__ import annotations

from collections.abc import Collection

from services.chat.domain.errors import UnknownProvider
from services.chat.domain.model_choice import providers_of
from services.chat.domain.ports import NewUnitOfWork
from services.chat.domain.preference import Preference
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SavePreference:
    """Choose anew; it counts from the next turn on."""

    unit_of_work: NewUnitOfWork
    catalogue: ModelCatalogue

    async def __call__(
        self, user_id: UserId, preference: Preference, only: Collection[str] | None = None
    ) -> Preference:
        """What is kept then; of fields that are not among `only`, as it was. Raises
        UnknownProvider."""
        known = providers_of(self.catalogue)
        unknown = [name for name in preference.fallback if name not in known]
        if unknown:
            raise UnknownProvider(unknown[0])
        async with self.unit_of_work() as work:
            return await work.preferences.save(user_id, preference, only)
