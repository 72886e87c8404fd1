"""What this user may use now."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.chat.domain.context_window import context_of
from services.chat.domain.known_key import KnownKey
from services.chat.domain.model_choice import models_of, providers_of
from services.chat.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.tiers import COMPATIBLE, Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model of the user's tier; `usable` tells whether a working key for it is stored and the
    vendor lists the model for that key. An operator's own server needs no key of the user.
    `context_tokens`: of prompt and answer together."""

    provider: str
    model: str
    max_output_tokens: int
    context_tokens: int
    features: Sequence[str]
    usable: bool


@dataclass(frozen=True, slots=True)
class ListModels:
    """What the tier offers, marked by what the user's valid keys can reach; where they have none,
    those of the organisation in which they have a seat."""

    unit_of_work: NewUnitOfWork
    catalogue: ModelCatalogue

    async def __call__(
        self, user_id: UserId, tier: Tier, *, organisation_id: UUID | None = None
    ) -> Sequence[OfferedModel]:
        async with self.unit_of_work() as work:
            known = await work.known_keys.of_user(user_id, organisation_id=organisation_id)
        # The key that keyvault would choose comes last, and stays.
        known = sorted(known, key=lambda key: (key.usable, key.user_id == user_id))
        keys = {key.provider: key for key in known}
        return [
            OfferedModel(
                provider=provider,
                model=model,
                max_output_tokens=allowance.max_output_tokens,
                context_tokens=context_of(
                    self.catalogue.context_of(model), allowance.context_tokens
                ),
                features=sorted(allowance.features),
                usable=provider == COMPATIBLE or _reaches(keys.get(provider), model),
            )
            for provider in providers_of(self.catalogue)
            if (allowance := tier.allowance(provider)) is not None
            for model in models_of(tier, provider, self.catalogue)
        ]


def _reaches(key: KnownKey | None, model: str) -> bool:
    return key is not None and key.usable and (not key.models or model in key.models)
