"""One of the models that this user may use now, by whatever name."""

from __future__ import annotations

from uuid import UUID

from services.chat.actions.list_models import ListModels, OfferedModel
from services.chat.domain.model_choice import choose_model
from services.chat.domain.model_name import choose_by_name
from shared.errors import NotInTier
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier
from shared.values import dataclass
from shared.vendors.dropins import ModelNotFound


@dataclass(frozen=True, slots=True)
class FindModel:
    """What a call that names a model like this would be answered by: of one provider, or of all."""

    list_models: ListModels
    catalogue: ModelCatalogue

    async def __call__(
        self,
        user_id: UserId,
        tier: Tier,
        name: str,
        *,
        provider: str | None = None,
        organisation_id: UUID | None = None,
    ) -> OfferedModel:
        """Raises ModelNotFound, also for what the tier or the user's keys don't reach."""
        try:
            if provider is None:
                choice = choose_by_name(tier, name, self.catalogue)
            else:
                choice = choose_model(tier, provider, name, self.catalogue)
        except NotInTier as failure:
            raise ModelNotFound from failure
        offered = await self.list_models(user_id, tier, organisation_id=organisation_id)
        for model in offered:
            if model.usable and (model.provider, model.model) == (choice.provider, choice.model):
                return model
        raise ModelNotFound
