"""What a tier includes at a provider beside text."""

from __future__ import annotations

from collections.abc import Collection

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import Effort
from services.chat.domain.errors import CapabilityMissing, FeatureNotInTier
from services.chat.domain.turn import Prompt
from shared.tiers import TIERS, Tier, next_tier

IMAGES = "multimodal"
TOOLS = "function_calling"
REASONING = "advanced_reasoning"
LONG_CONTEXT = "long_context"


def long_contexts(tier: Tier) -> dict[str, int]:
    """The providers that the tier is sold with long context at, with how many tokens that is."""
    return {
        provider: allowance.context_tokens
        for provider, allowance in tier.allowances.items()
        if LONG_CONTEXT in allowance.features
    }


def require_features(prompt: Prompt, tier: Tier) -> None:
    """Raises FeatureNotInTier for images or tools where the tier does not include them."""
    provider = prompt.choice.provider
    if any(utterance.images for utterance in prompt.utterances if utterance.parts):
        require_feature(tier, provider, IMAGES)
    if _has_tools(prompt):
        require_feature(tier, provider, TOOLS)


def require_capabilities(prompt: Prompt, can: Capabilities) -> None:
    """Raises CapabilityMissing for what the provider can't do, in whatever tier."""
    provider = prompt.choice.provider
    images = [image for utterance in prompt.utterances for image in utterance.images]
    if images and not can.images:
        raise CapabilityMissing("images", provider)
    if not can.image_urls and any(image.data is None for image in images):
        raise CapabilityMissing("image_urls", provider)
    if not can.tools and _has_tools(prompt):
        raise CapabilityMissing("tools", provider)
    if not can.answer_format and prompt.answer_format:
        raise CapabilityMissing("answer_format", provider)


def _has_tools(prompt: Prompt) -> bool:
    return bool(prompt.tools) or any(u.tool_calls or u.tool_results for u in prompt.utterances)


def require_effort(tier: Tier, provider: str, effort: Effort | None) -> None:
    """Raises FeatureNotInTier for a wish to think more than not at all, where it is sold."""
    if effort not in (None, "none"):
        require_each(tier, provider, {REASONING})


def require_each(tier: Tier, provider: str, features: Collection[str]) -> None:
    """Raises FeatureNotInTier for what of these the tier does not include. Advanced reasoning is
    one at providers where some tier is sold with it; elsewhere thinking is a part of the model."""
    for feature in sorted(features):
        if feature != REASONING or _is_sold(provider, REASONING):
            require_feature(tier, provider, feature)


def _is_sold(provider: str, feature: str) -> bool:
    return any(tier.allows(provider, feature) for tier in TIERS.values())


def require_feature(tier: Tier, provider: str, feature: str) -> None:
    """Raises FeatureNotInTier, naming the next larger tier that has it."""
    if tier.allows(provider, feature):
        return
    better = next_tier(tier, lambda larger: larger.allows(provider, feature))
    raise FeatureNotInTier(feature, provider, tier.name, better)
