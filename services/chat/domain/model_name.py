"""Which model a client means that names it in one word, over all vendors."""

from __future__ import annotations

from services.chat.domain.model_choice import (
    CHAT_PROVIDERS,
    ModelChoice,
    choose_known_model,
    choose_model,
    models_of,
    providers_of,
)
from shared.model_catalogue import ModelCatalogue
from shared.tiers import COMPATIBLE, TIERS, Tier
from shared.vendors.dropins import ModelNotFound

DEFAULT = "default"


def choose_by_name(tier: Tier, name: str, catalogue: ModelCatalogue) -> ModelChoice:
    """The model of `<provider>/<model>`, a model class, one of the specification's names, an id of
    the vendor's own, `<provider>/default` for that provider's first one of the tier, or `default`
    for the tier's.

    Raises ModelNotFound, ProviderNotInTier or ModelNotInTier.
    """
    # Open models have a slash of their own in their ids: "openai/gpt-oss-20b".
    if "/" in name and name in catalogue.own_models(tier.name):
        return choose_model(tier, COMPATIBLE, name, catalogue)
    provider, separator, model = name.partition("/")
    if separator and provider in providers_of(catalogue):
        is_default = not model or (
            model == DEFAULT and DEFAULT not in models_of(tier, provider, catalogue)
        )
        return choose_known_model(tier, provider, None if is_default else model, catalogue)
    if name == DEFAULT:
        return choose_model(tier, CHAT_PROVIDERS[0], None, catalogue)
    return choose_model(tier, _provider_of(name, catalogue), name, catalogue)


def _provider_of(name: str, catalogue: ModelCatalogue) -> str:
    id_ = catalogue.resolve(name)
    for tier in TIERS.values():
        for provider in providers_of(catalogue):
            if id_ in models_of(tier, provider, catalogue):
                return provider
    raise ModelNotFound
