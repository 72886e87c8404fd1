"""Who may answer in a provider's place: what a tier does not grant there, nobody falls back on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.fallback import fallbacks
from services.chat.domain.known_key import KnownKey
from services.chat.domain.turn import Prompt
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS, Allowance
from tests.support.wires import a_prompt

PROMPT = a_prompt("openai", "word " * 100)
LENGTH = PROMPT.input_estimate
KEY = KnownKey(UserId(uuid4()), "gemini", 1, "valid")


def stands_in(
    prompt: Prompt,
    *,
    tier_context: int | None = 0,
    model_context: int = 1_000_000,
    known: Sequence[KnownKey] = (KEY,),
) -> bool:
    """Whether gemini does, in a tier that grants so much context there; None grants nothing."""
    allowance = Allowance(model_classes=("gemini.standard",), context_tokens=tier_context or 0)
    tier = replace(TIERS["pro"], allowances={} if tier_context is None else {"gemini": allowance})
    plain = ModelCatalogue()
    catalogue = ModelCatalogue(contexts={plain.id_of("gemini.standard"): model_context})
    can = {"gemini": Capabilities()}
    return bool(fallbacks(prompt, tier, ["gemini"], known, can, catalogue))


@pytest.mark.parametrize(
    ("tier_context", "may"), [(0, True), (1, False), (LENGTH - 1, False), (LENGTH, True)]
)
def test_a_prompt_is_no_longer_than_the_tier_grants_there(tier_context: int, may: bool) -> None:
    assert stands_in(PROMPT, tier_context=tier_context) is may


@pytest.mark.parametrize(("model_context", "may"), [(LENGTH - 1, False), (LENGTH, True)])
def test_nor_than_the_model_reads(model_context: int, may: bool) -> None:
    assert stands_in(PROMPT, model_context=model_context) is may


def test_a_tier_without_the_provider_is_passed_over() -> None:
    assert not stands_in(PROMPT, tier_context=None)


@pytest.mark.parametrize(
    ("keys", "may"),
    [
        ([], False),
        ([replace(KEY, provider="anthropic")], False),
        ([replace(KEY, status="invalid")], False),
        ([replace(KEY, models=["another-model"])], False),
        ([replace(KEY, models=["another-model", ModelCatalogue().id_of("gemini.standard")])], True),
        ([replace(KEY, provider="anthropic"), KEY], True),
    ],
)
def test_only_a_provider_that_the_users_keys_open_stands_in(
    keys: list[KnownKey], may: bool
) -> None:
    assert stands_in(PROMPT, known=keys) is may
