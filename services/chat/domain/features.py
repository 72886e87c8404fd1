"""What a tier includes at a provider beside text."""

from __future__ import annotations

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import Effort
from services.chat.domain.errors import CapabilityMissing, FeatureNotInTier
from services.chat.domain.turn import Prompt
from shared.tiers import TIERS, Tier

IMAGES = "multimodal"
TOOLS = "function_calling"
REASONING = "advanced_reasoning"


def require_features(prompt: Prompt, tier: Tier) -> None:
    """Raises FeatureNotInTier for images or tools where the tier does not include them."""
    provider = prompt.choice.provider
    if any(utterance.images for utterance in prompt.utterances if utterance.parts):
        require_feature(tier, provider, IMAGES)
    if prompt.tools:
        require_feature(tier, provider, TOOLS)


def require_capabilities(prompt: Prompt, can: Capabilities) -> None:
    """Raises CapabilityMissing for what the provider can't do, in whatever tier."""
    provider = prompt.choice.provider
    images = [image for utterance in prompt.utterances for image in utterance.images]
    if images and not can.images:
        raise CapabilityMissing("images", provider)
    if not can.image_urls and any(image.data is None for image in images):
        raise CapabilityMissing("images by URL", provider)
    if not can.tools and (prompt.tools or any(u.tool_calls for u in prompt.utterances)):
        raise CapabilityMissing("tools", provider)
    if not can.answer_format and prompt.answer_format:
        raise CapabilityMissing("answer_format", provider)


def require_effort(tier: Tier, provider: str, effort: Effort | None) -> None:
    """Raises FeatureNotInTier for a wish to think more than not at all, at providers where some
    tier is sold with advanced reasoning. Elsewhere thinking is a part of the model."""
    if effort in (None, "none"):
        return
    if any(other.allows(provider, REASONING) for other in TIERS.values()):
        require_feature(tier, provider, REASONING)


def require_feature(tier: Tier, provider: str, feature: str) -> None:
    """Raises FeatureNotInTier, naming the next larger tier that has it."""
    if tier.allows(provider, feature):
        return
    larger = sorted((t for t in TIERS.values() if t.rank > tier.rank), key=lambda t: t.rank)
    better = next((t.name for t in larger if t.allows(provider, feature)), None)
    raise FeatureNotInTier(feature, provider, tier.name, better)
