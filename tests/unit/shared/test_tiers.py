"""THE tier table says what the specification says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shared.errors import NotInTier, SessionEnded
from shared.model_catalogue import ModelCatalogue
from shared.tiers import (
    DEFAULT_TIER,
    NO_TIER,
    TIERS,
    Allowance,
    Tier,
    TierChanged,
    TierUnsettled,
    by_current_tier,
    next_tier,
    tier_named,
)
from shared.vendors import vendors

# tier, vendor: first model as the specification names it, tokens, a day, a minute
CHAT = {
    ("free", "openai"): ("gpt-3.5-turbo", 1_000, 50, 5),
    ("pro", "openai"): ("gpt-4", 4_000, 500, 20),
    ("enterprise", "openai"): ("gpt-4", 8_000, None, 100),
    ("pro", "gemini"): ("gemini-pro", 8_000, 1_000, 20),
    ("enterprise", "gemini"): ("gemini-pro", 32_000, None, 100),
    ("pro", "anthropic"): ("claude-3-sonnet", 4_000, 500, 20),
    ("enterprise", "anthropic"): ("claude-3-opus", 8_000, None, 100),
}
# tier: quality, characters a month, voices that are included at least
VOICE = {
    "free": ("standard", 10_000, {"basic"}),
    "pro": ("high", 100_000, {"premium", "custom"}),
    "enterprise": ("ultra", None, {"premium", "custom", "enterprise"}),
}
FEATURES = {
    ("pro", "gemini"): {"text_generation", "code_analysis"},
    ("enterprise", "gemini"): {
        "text_generation",
        "code_analysis",
        "multimodal",
        "function_calling",
    },
    ("pro", "anthropic"): {"text_generation", "code_analysis", "long_context"},
    ("enterprise", "anthropic"): {
        "text_generation",
        "code_analysis",
        "long_context",
        "advanced_reasoning",
    },
}
# What the specification says nothing of: streams at once; tokens a minute and context at each
# provider of chat.
BESIDE_SPECIFICATION = {
    "free": (5, 100_000, 16_000),
    "pro": (20, 1_000_000, 128_000),
    "enterprise": (100, 10_000_000, 400_000),
}
LONG_CONTEXT = {"pro": 400_000, "enterprise": 1_000_000}
BESIDE_SPECIFIED_FEATURES = {"anthropic": {"multimodal", "function_calling"}}


def is_long(tier: str, vendor: str) -> bool:
    return TIERS[tier].allows(vendor, "long_context")


def granted(tier: str, vendor: str) -> Allowance:
    allowance = TIERS[tier].allowance(vendor)
    assert allowance is not None
    return allowance


@pytest.mark.parametrize(("tier", "vendor"), CHAT)
def test_chat_limits_are_the_specifications(tier: str, vendor: str) -> None:
    model, tokens, a_day, a_minute = CHAT[tier, vendor]
    allowance, catalogue = granted(tier, vendor), ModelCatalogue()
    assert catalogue.id_of(allowance.model_classes[0]) == catalogue.resolve(model)
    assert allowance.max_output_tokens == tokens
    assert allowance.requests_per_day == a_day
    assert allowance.requests_per_minute == a_minute


@pytest.mark.parametrize("tier", VOICE)
def test_voice_limits_are_the_specifications(tier: str) -> None:
    quality, characters, voices = VOICE[tier]
    allowance = granted(tier, "elevenlabs")
    assert allowance.quality == quality
    assert allowance.characters_per_month == characters
    assert voices <= allowance.voice_categories


@pytest.mark.parametrize(("tier", "vendor"), FEATURES)
def test_features_are_the_specifications(tier: str, vendor: str) -> None:
    features = FEATURES[tier, vendor] | BESIDE_SPECIFIED_FEATURES.get(vendor, set())
    assert granted(tier, vendor).features == features


@pytest.mark.parametrize("tier", BESIDE_SPECIFICATION)
def test_tokens_streams_and_context_are_bounded(tier: str) -> None:
    streams, tokens, context = BESIDE_SPECIFICATION[tier]
    assert TIERS[tier].concurrent_streams == streams
    for vendor in {vendor for _, vendor in CHAT} & set(TIERS[tier].allowances):
        allowance = granted(tier, vendor)
        most = LONG_CONTEXT[tier] if is_long(tier, vendor) else context
        assert (allowance.tokens_per_minute, allowance.context_tokens) == (tokens, most)
        # A whole context and its answer fit into a minute.
        assert allowance.context_tokens + allowance.max_output_tokens <= tokens
    assert granted(tier, "elevenlabs").tokens_per_minute is None


def test_voice_features_are_the_specifications() -> None:
    assert not TIERS["free"].allows("elevenlabs", "voice_cloning")
    assert not TIERS["free"].allows("elevenlabs", "speaker_boost")
    for feature in ("text_to_speech", "voice_cloning", "realtime", "speaker_boost"):
        assert TIERS["pro"].allows("elevenlabs", feature)
    assert not TIERS["pro"].allows("elevenlabs", "custom_models")
    assert TIERS["enterprise"].allows("elevenlabs", "custom_models")


def test_free_has_neither_gemini_nor_claude() -> None:
    assert not TIERS["free"].allows("gemini")
    assert not TIERS["free"].allows("anthropic")
    assert set(TIERS["free"].allowances) == {"openai", "elevenlabs"}


def test_enterprise_costs_fifteen_dollars_a_seat() -> None:
    assert TIERS["enterprise"].price_microusd_per_seat_month == 15_000_000
    assert TIERS["enterprise"].many_seats
    assert TIERS["free"].price_microusd_per_seat_month == 0
    # Whoever pays goes on where others wait.
    assert [tier.is_paid for tier in TIERS.values()] == [False, True, True]


@pytest.mark.parametrize("name", ["platinum", "", None, "FREE", "free "])
def test_an_unknown_tier_falls_back_to_free(name: str | None) -> None:
    assert tier_named(name) is DEFAULT_TIER is TIERS["free"]


def test_every_model_class_is_served() -> None:
    catalogue = ModelCatalogue()
    for tier in TIERS.values():
        for allowance in tier.allowances.values():
            assert allowance.model_classes
            assert all(catalogue.id_of(class_) for class_ in allowance.model_classes)


def test_every_vendor_of_the_table_is_known() -> None:
    assert {vendor for tier in TIERS.values() for vendor in tier.allowances} <= set(vendors)


def test_a_larger_tier_never_grants_less() -> None:
    ordered = sorted(TIERS.values(), key=lambda tier: tier.rank)
    for smaller, larger in pairwise(ordered):
        assert larger.concurrent_streams >= smaller.concurrent_streams
        for vendor, less in smaller.allowances.items():
            more = granted(larger.name, vendor)
            assert less.features <= more.features
            assert less.voice_categories <= more.voice_categories
            assert more.max_output_tokens >= less.max_output_tokens
            assert more.context_tokens >= less.context_tokens
            assert more.characters_per_text >= less.characters_per_text
            for name in (
                "requests_per_day",
                "requests_per_minute",
                "tokens_per_minute",
                "characters_per_month",
            ):
                limit, larger_limit = getattr(less, name), getattr(more, name)
                assert larger_limit is None or (limit is not None and larger_limit >= limit)


def test_every_call_is_limited_per_minute_at_least() -> None:
    for tier in TIERS.values():
        assert all(a.requests_per_minute for a in tier.allowances.values())


def test_a_refused_user_is_pointed_to_the_next_tier_that_includes_it() -> None:
    assert next_tier(TIERS["free"], lambda tier: tier.allows("gemini")) == "pro"
    assert next_tier(TIERS["pro"], lambda tier: tier.allows("gemini")) == "enterprise"
    assert next_tier(TIERS["enterprise"], lambda tier: tier.allows("gemini")) is None
    assert next_tier(TIERS["free"], lambda tier: tier.allows("no-such-vendor")) is None


def test_tier_names_fit_queues_headers_and_labels() -> None:
    assert all(name.isascii() and name.isalnum() and name == name.lower() for name in TIERS)


class Told:
    """Lets in whoever comes by the tier that was told last, of those that are told in turn."""

    def __init__(self, *told: str) -> None:
        self.told = list(told)
        self.asked_by: list[Tier] = []

    async def take(self, tier: Tier) -> Tier:
        self.asked_by.append(tier)
        told = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if told != tier.told_as:
            raise TierChanged(told)
        return tier

    async def last(self) -> str | None:
        return self.told[0]


async def test_the_tier_that_was_told_counts() -> None:
    told = Told("pro")
    assert await by_current_tier(TIERS["free"], told.last, told.take) is TIERS["pro"]
    assert told.asked_by == [TIERS["free"], TIERS["pro"]]


async def test_a_told_tier_that_is_not_known_here_grants_what_the_default_does() -> None:
    told = Told("team")
    tier = await by_current_tier(TIERS["pro"], told.last, told.take)
    assert (tier.name, tier.told_as) == ("free", "team")
    assert tier.allowances == DEFAULT_TIER.allowances
    assert len(told.asked_by) == 2


async def test_a_tier_that_changes_again_meanwhile_is_asked_for_once_more() -> None:
    told = Told("pro", "enterprise")
    assert await by_current_tier(TIERS["free"], told.last, told.take) is TIERS["enterprise"]


async def test_a_tier_that_never_rests_ends_in_a_try_later() -> None:
    told = Told("pro", "free", "pro", "free")
    with pytest.raises(TierUnsettled):
        await by_current_tier(TIERS["free"], told.last, told.take)
    assert len(told.asked_by) == 3


@pytest.mark.parametrize(("current", "takes"), [(None, 1), ("free", 1), ("team", 2)])
async def test_what_the_told_tier_lacks_too_is_refused(current: str | None, takes: int) -> None:
    asked: list[Tier] = []

    async def take(tier: Tier) -> Tier:
        asked.append(tier)
        raise NotInTier("No.")

    async def told() -> str | None:
        return current

    with pytest.raises(NotInTier):
        await by_current_tier(TIERS["free"], told, take)
    assert len(asked) == takes


async def test_an_account_that_is_gone_has_no_tier() -> None:
    told = Told(NO_TIER)
    with pytest.raises(SessionEnded):
        await by_current_tier(TIERS["free"], told.last, told.take)
