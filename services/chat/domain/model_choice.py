"""Which model answers: what the user wishes, within what their tier grants."""

from __future__ import annotations

from dataclasses import dataclass

from services.chat.domain.errors import ModelNotInTier, ProviderNotInTier, UnknownProvider
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Allowance, Tier, upgrade_from

CHAT_PROVIDERS = ("openai", "gemini", "anthropic")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The vendor, its model's id, and the tier's cap on the answer's length in tokens."""

    provider: str
    model: str
    max_output_tokens: int


def choose_model(
    tier: Tier, provider: str, wished: str | None, catalogue: ModelCatalogue
) -> ModelChoice:
    """The model for a turn; without a wish the tier's first one.

    Raises UnknownProvider, ProviderNotInTier or ModelNotInTier.
    """
    if provider not in CHAT_PROVIDERS:
        raise UnknownProvider(provider)
    allowance = tier.allowance(provider)
    if allowance is None:
        larger = upgrade_from(tier, provider)
        raise ProviderNotInTier(provider, tier.name, larger.name if larger else None)
    granted = models_of(allowance, catalogue)
    model = catalogue.resolve(wished) if wished else granted[0]
    if model not in granted:
        raise ModelNotInTier(model, tier.name, granted)
    return ModelChoice(provider, model, allowance.max_output_tokens)


def models_of(allowance: Allowance, catalogue: ModelCatalogue) -> list[str]:
    """The vendor ids that an allowance grants today."""
    return [catalogue.id_of(model_class) for model_class in allowance.model_classes]
