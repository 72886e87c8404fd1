"""Which model answers: what the user wishes, within what their tier grants."""

from __future__ import annotations

from services.chat.domain.errors import ModelNotInTier, ProviderNotInTier, UnknownProvider
from shared.model_catalogue import ModelCatalogue
from shared.tiers import COMPATIBLE, TIERS, Tier, next_tier
from shared.values import dataclass
from shared.vendors.dropins import ModelNotFound

CHAT_PROVIDERS = ("openai", "gemini", "anthropic")
"""The vendors that chat speaks to in every deployment."""


def providers_of(catalogue: ModelCatalogue) -> tuple[str, ...]:
    """The providers of this deployment: an operator may have a server of their own."""
    return (*CHAT_PROVIDERS, COMPATIBLE) if catalogue.has_own_server else CHAT_PROVIDERS


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
    if provider not in providers_of(catalogue):
        raise UnknownProvider(provider)
    allowance, granted = tier.allowance(provider), models_of(tier, provider, catalogue)
    if allowance is None or not granted:
        larger = next_tier(tier, lambda other: bool(models_of(other, provider, catalogue)))
        raise ProviderNotInTier(provider, tier.name, larger)
    model = wished or granted[0]
    if model not in granted:
        model = catalogue.resolve(model)
    if model not in granted:
        raise ModelNotInTier(model, tier.name, granted)
    return ModelChoice(provider, model, allowance.max_output_tokens)


def choose_known_model(
    tier: Tier, provider: str, wished: str | None, catalogue: ModelCatalogue
) -> ModelChoice:
    """`choose_model` for who may name anything.

    Raises ModelNotInTier for a model that another tier grants, and ModelNotFound for one that none
    does.
    """
    try:
        return choose_model(tier, provider, wished, catalogue)
    except ModelNotInTier as refused:
        model = catalogue.resolve(wished or "")
        if any(model in models_of(other, provider, catalogue) for other in TIERS.values()):
            raise
        raise ModelNotFound from refused


def models_of(tier: Tier, provider: str, catalogue: ModelCatalogue) -> list[str]:
    """The provider's ids that the tier grants today; none when it does not include the provider."""
    if provider == COMPATIBLE:
        return catalogue.own_models(tier.name)
    allowance = tier.allowance(provider)
    classes = allowance.model_classes if allowance else ()
    # An operator may let one model serve two classes.
    return list(dict.fromkeys([catalogue.id_of(model_class) for model_class in classes]))
