"""What a tier includes at a provider, by whichever door it is asked for."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import Effort, Role, ToolCall, ToolResult, Utterance
from services.chat.domain.errors import CapabilityMissing, FeatureNotInTier
from services.chat.domain.fallback import fallbacks
from services.chat.domain.features import REASONING, TOOLS, require_capabilities, require_each
from services.chat.domain.known_key import KnownKey
from services.chat.domain.turn import Prompt
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from tests.support.wires import a_prompt

CALLED = (
    Utterance(Role.USER, "do"),
    Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall("1", "f", "{}")]),
    Utterance(Role.TOOL, "", tool_results=[ToolResult("1", "done", "f")]),
)


def stands_in(provider: str, prompt: Prompt, tier: str) -> bool:
    known = [KnownKey(UserId(uuid4()), provider, 1, "valid")]
    can = {provider: Capabilities()}
    return bool(fallbacks(prompt, TIERS[tier], [provider], known, can, ModelCatalogue()))


@pytest.mark.parametrize(
    ("effort", "tier", "may"),
    [
        (None, "pro", True),
        ("none", "pro", True),
        ("high", "pro", False),
        ("high", "enterprise", True),
    ],
)
def test_who_stands_in_thinks_no_more_than_the_tier_is_sold_with(
    effort: Effort | None, tier: str, may: bool
) -> None:
    assert stands_in("anthropic", a_prompt("openai", effort=effort), tier) is may
    # Where no tier is sold with it, thinking is a part of the model.
    assert stands_in("gemini", a_prompt("openai", effort=effort), tier)


def test_who_stands_in_has_the_tools_that_the_conversation_has() -> None:
    assert stands_in("anthropic", a_prompt("openai", *CALLED), "pro")
    assert not stands_in("gemini", a_prompt("openai", *CALLED), "pro")


def test_reasoning_is_a_feature_where_some_tier_is_sold_with_it() -> None:
    with pytest.raises(FeatureNotInTier) as refused:
        require_each(TIERS["pro"], "anthropic", {REASONING})
    assert refused.value.facts["upgrade_tier"] == "enterprise"
    require_each(TIERS["enterprise"], "anthropic", {REASONING, TOOLS})
    require_each(TIERS["free"], "openai", {REASONING})
    with pytest.raises(FeatureNotInTier):
        require_each(TIERS["free"], "openai", {REASONING, TOOLS})


def test_a_conversation_with_tools_needs_a_provider_that_has_them() -> None:
    for said in (CALLED, CALLED[2:]):
        with pytest.raises(CapabilityMissing):
            require_capabilities(a_prompt("openai", *said), Capabilities(tools=False))
