"""THE tier table. Limits, features, model classes, queues, pools and prices follow from it.

Code asks what a tier allows, never its name. Adding a tier is one row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field, replace
from types import MappingProxyType
from typing import TypeVar

from shared.errors import NotInTier, SessionEnded, Unavailable
from shared.values import dataclass

T = TypeVar("T")

COMPATIBLE = "compatible"
"""An operator's own server that speaks OpenAI's wire."""

# It is limited like the vendor in whose place it stands; which models it has, the operator says.
_GRANTED_AS: Mapping[str, str] = MappingProxyType({COMPATIBLE: "openai"})


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a tier grants at one vendor. `None` as a limit means unlimited."""

    model_classes: tuple[str, ...]  # the first one answers when the user names none
    max_output_tokens: int = 0
    requests_per_day: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    context_tokens: int = 0  # most that one request may carry, history included
    characters_per_month: int | None = None
    characters_per_text: int = 0  # most that is spoken for one request
    quality: str = "standard"
    voice_categories: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tier:
    """One row of the table."""

    name: str
    rank: int
    price_microusd_per_seat_month: int
    concurrent_streams: int  # answers being written at once, over all vendors
    many_seats: bool = False  # whether one subscription may hold more than one seat
    allowances: Mapping[str, Allowance] = field(default_factory=dict)
    stands_in_for: str | None = None  # a name that was told and that no row here has

    @property
    def told_as(self) -> str:
        """What auth calls it; its name, unless it stands in for one that is not known here."""
        return self.stands_in_for or self.name

    @property
    def is_paid(self) -> bool:
        """Whether somebody pays for it: paid use goes on where unpaid waits."""
        return self.price_microusd_per_seat_month > 0

    def allows(self, vendor: str, feature: str | None = None) -> bool:
        """Whether this tier includes the vendor (and the feature there)."""
        allowance = self.allowance(vendor)
        return allowance is not None and (feature is None or feature in allowance.features)

    def allowance(self, vendor: str) -> Allowance | None:
        """What is granted at this vendor; None when it is not offered."""
        return self.allowances.get(_GRANTED_AS.get(vendor, vendor))


_CHAT = frozenset({"text_generation"})
_CODE = _CHAT | {"code_analysis"}
_TOOLS = frozenset({"multimodal", "function_calling"})

# The numbers are the specification's. OpenAI's rate for Gemini and Claude is not given there; the
# rate of the same tier's OpenAI row holds for them too, so that no vendor is an open door. Of
# tokens a minute, streams at once, context and the length of a spoken text the specification says
# nothing (Claude's long context is larger than the row's others); nor of images and tools at
# Claude, which has what OpenAI's row of the same tier has. Ours are pro's price, too, as only
# enterprise's is given, and ElevenLabs' requests a minute, which are those of the row's others.
TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        tier.name: tier
        for tier in (
            Tier(
                name="free",
                rank=0,
                price_microusd_per_seat_month=0,
                concurrent_streams=5,
                allowances={
                    "openai": Allowance(
                        model_classes=("openai.small",),
                        max_output_tokens=1_000,
                        requests_per_day=50,
                        requests_per_minute=5,
                        tokens_per_minute=100_000,
                        context_tokens=16_000,
                        features=_CHAT,
                    ),
                    "elevenlabs": Allowance(
                        model_classes=("elevenlabs.standard",),
                        requests_per_minute=5,
                        characters_per_month=10_000,
                        characters_per_text=5_000,
                        quality="standard",
                        voice_categories=frozenset({"basic"}),
                        features=frozenset({"text_to_speech"}),
                    ),
                },
            ),
            Tier(
                name="pro",
                rank=1,
                price_microusd_per_seat_month=9_000_000,
                concurrent_streams=20,
                allowances={
                    "openai": Allowance(
                        model_classes=("openai.large", "openai.medium", "openai.small"),
                        max_output_tokens=4_000,
                        requests_per_day=500,
                        requests_per_minute=20,
                        tokens_per_minute=1_000_000,
                        context_tokens=128_000,
                        features=_CODE | _TOOLS,
                    ),
                    "gemini": Allowance(
                        model_classes=("gemini.standard",),
                        max_output_tokens=8_000,
                        requests_per_day=1_000,
                        requests_per_minute=20,
                        tokens_per_minute=1_000_000,
                        context_tokens=128_000,
                        features=_CODE,
                    ),
                    "anthropic": Allowance(
                        model_classes=("anthropic.sonnet",),
                        max_output_tokens=4_000,
                        requests_per_day=500,
                        requests_per_minute=20,
                        tokens_per_minute=1_000_000,
                        context_tokens=400_000,
                        features=_CODE | _TOOLS | {"long_context"},
                    ),
                    "elevenlabs": Allowance(
                        model_classes=("elevenlabs.high", "elevenlabs.standard"),
                        requests_per_minute=20,
                        characters_per_month=100_000,
                        characters_per_text=40_000,
                        quality="high",
                        voice_categories=frozenset({"basic", "premium", "custom"}),
                        features=frozenset(
                            {"text_to_speech", "speaker_boost", "voice_cloning", "realtime"}
                        ),
                    ),
                },
            ),
            Tier(
                name="enterprise",
                rank=2,
                price_microusd_per_seat_month=15_000_000,
                concurrent_streams=100,
                many_seats=True,
                allowances={
                    "openai": Allowance(
                        model_classes=(
                            "openai.large",
                            "openai.medium",
                            "openai.small",
                            "openai.frontier",
                        ),
                        max_output_tokens=8_000,
                        requests_per_minute=100,
                        tokens_per_minute=10_000_000,
                        context_tokens=400_000,
                        features=_CODE | _TOOLS,
                    ),
                    "gemini": Allowance(
                        model_classes=("gemini.standard", "gemini.frontier"),
                        max_output_tokens=32_000,
                        requests_per_minute=100,
                        tokens_per_minute=10_000_000,
                        context_tokens=400_000,
                        features=_CODE | _TOOLS,
                    ),
                    "anthropic": Allowance(
                        model_classes=(
                            "anthropic.opus",
                            "anthropic.sonnet",
                            "anthropic.frontier",
                        ),
                        max_output_tokens=8_000,
                        requests_per_minute=100,
                        tokens_per_minute=10_000_000,
                        context_tokens=1_000_000,
                        features=_CODE | _TOOLS | {"long_context", "advanced_reasoning"},
                    ),
                    "elevenlabs": Allowance(
                        model_classes=("elevenlabs.high", "elevenlabs.standard"),
                        requests_per_minute=100,
                        characters_per_text=40_000,
                        quality="ultra",
                        voice_categories=frozenset({"basic", "premium", "custom", "enterprise"}),
                        features=frozenset(
                            {
                                "text_to_speech",
                                "speaker_boost",
                                "voice_cloning",
                                "realtime",
                                "custom_models",
                            }
                        ),
                    ),
                },
            ),
        )
    }
)

DEFAULT_TIER = TIERS["free"]


NO_TIER = "-"
"""What is told of an account that exists no more, or into which nobody gets."""


class TierChanged(Exception):
    """The user has another tier now than their access token says: decide again, with this one."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.told = told

    @property
    def tier(self) -> Tier:
        """Raises SessionEnded when the account is gone."""
        if self.told == NO_TIER:
            raise SessionEnded
        tier = tier_named(self.told)
        # A newer release may know more tiers; who has one of those is not asked about it again.
        return tier if tier.name == self.told else replace(tier, stands_in_for=self.told)


def tier_named(name: str | None) -> Tier:
    """The tier of that name; an unknown one falls back to the default, as specified."""
    return TIERS.get(name or "", DEFAULT_TIER)


class TierUnsettled(Unavailable):
    """The user's tier changed again and again while it was decided by."""

    code = "tier_unsettled"

    def __init__(self) -> None:
        super().__init__("Your tier is being changed at this moment.")


_MOST_CHANGES = 2


async def by_current_tier(
    tier: Tier,
    told: Callable[[], Awaitable[str | None]],
    take: Callable[[Tier], Awaitable[T]],
) -> T:
    """What `take` does, by the tier that the user has now: it may be another one than their token
    says. `told`: the tier that auth told of them lately.

    Raises SessionEnded when the account is gone, and TierUnsettled.
    """
    for _ in range(1 + _MOST_CHANGES):
        try:
            return await take(tier)
        except TierChanged as changed:
            tier = changed.tier
        except NotInTier:
            # Refused by what the token claims; the user may have upgraded a moment ago.
            current = await told()
            if current is None or current == tier.told_as:
                raise
            tier = TierChanged(current).tier
    raise TierUnsettled


def next_tier(tier: Tier, includes: Callable[[Tier], bool]) -> str | None:
    """The name of the next larger tier that includes it; what a refused user is pointed to."""
    larger = sorted((t for t in TIERS.values() if t.rank > tier.rank), key=lambda t: t.rank)
    return next((t.name for t in larger if includes(t)), None)
