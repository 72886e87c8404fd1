"""Which other providers may answer a prompt, in the order that its user wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.errors import CapabilityMissing, FeatureNotInTier
from services.chat.domain.features import (
    require_capabilities,
    require_effort,
    require_features,
)
from services.chat.domain.known_key import KnownKey
from services.chat.domain.model_choice import ModelChoice, choose_model
from services.chat.domain.turn import Prompt
from shared.errors import ExpectedFailure
from shared.model_catalogue import ModelCatalogue
from shared.tiers import COMPATIBLE, Tier


def fallbacks(
    prompt: Prompt,
    tier: Tier,
    wished: Sequence[str],
    known: Sequence[KnownKey],
    spoken: Mapping[str, Capabilities],
    catalogue: ModelCatalogue,
) -> list[ModelChoice]:
    """The tier's first model of each: where the tier includes the provider with what the prompt
    needs of it, and a working key is known that reaches the model."""
    others = [name for name in dict.fromkeys(wished) if name != prompt.choice.provider]
    choices = [
        choice
        for name in others
        if name in spoken and _is_up_to(prompt, name, spoken[name], tier)
        if (choice := _first_model(tier, name, catalogue)) is not None
        if _is_reached(choice, known)
        if prompt.input_estimate <= catalogue.context_of(choice.model)
    ]
    # The user's own wish for the answer's length goes along.
    most = prompt.choice.max_output_tokens
    return [ModelChoice(c.provider, c.model, min(c.max_output_tokens, most)) for c in choices]


def _is_up_to(prompt: Prompt, provider: str, can: Capabilities, tier: Tier) -> bool:
    allowance = tier.allowance(provider)
    if allowance is None or 0 < allowance.context_tokens < prompt.input_estimate:
        return False
    asked = replace(prompt, choice=replace(prompt.choice, provider=provider))
    try:
        require_features(asked, tier)
        require_effort(tier, provider, asked.effort)
        require_capabilities(asked, can)
    except (FeatureNotInTier, CapabilityMissing):
        return False
    return True


def _first_model(tier: Tier, provider: str, catalogue: ModelCatalogue) -> ModelChoice | None:
    try:
        return choose_model(tier, provider, None, catalogue)
    except ExpectedFailure:
        return None


def _is_reached(choice: ModelChoice, known: Sequence[KnownKey]) -> bool:
    if choice.provider == COMPATIBLE:
        return True  # the operator's own server, with the operator's own key
    return any(
        key.usable
        and key.provider == choice.provider
        and (not key.models or choice.model in key.models)
        for key in known
    )
