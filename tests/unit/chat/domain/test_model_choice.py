"""Which model answers, also where an operator has a server of their own."""

from __future__ import annotations

import orjson
import pytest

from services.chat.api.dropin_call import VendorCall
from services.chat.api.dropin_openai_calls import read_chat
from services.chat.domain.context_window import RESERVE_TOKENS
from services.chat.domain.errors import (
    FeatureNotInTier,
    ModelNotInTier,
    ProviderNotInTier,
    QuestionTooLong,
    UnknownProvider,
)
from services.chat.domain.model_choice import CHAT_PROVIDERS, choose_model, models_of, providers_of
from services.chat.domain.model_name import choose_by_name
from services.chat.domain.relaying import governed_choice
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from shared.vendors.dropins import ModelNotFound

FREE, PRO, ENTERPRISE = (TIERS[name] for name in ("free", "pro", "enterprise"))
PLAIN = ModelCatalogue()
OWN = ModelCatalogue.from_json(
    "", own='{"*": ["llama", "openai/gpt-oss-20b", "gpt-4"], "pro": ["big", "llama"]}'
)
PRO_ONLY = ModelCatalogue(own={"pro": ["big"]})


def test_the_first_model_of_a_row_is_the_default() -> None:
    assert choose_model(FREE, "openai", None, PLAIN).model == "gpt-6-luna"
    assert choose_model(PRO, "openai", None, PLAIN).model == "gpt-6.1-sol"
    assert choose_model(ENTERPRISE, "anthropic", None, PLAIN).model == "claude-opus-5-5"


def test_each_tier_reaches_the_models_of_its_row() -> None:
    assert models_of(PRO, "openai", PLAIN) == ["gpt-6.1-sol", "gpt-6.1-terra", "gpt-6-luna"]
    assert "gpt-6-astra" in models_of(ENTERPRISE, "openai", PLAIN)
    assert "gemini-4-argon" in models_of(ENTERPRISE, "gemini", PLAIN)
    assert "claude-fable-5-2" in models_of(ENTERPRISE, "anthropic", PLAIN)
    assert models_of(FREE, "gemini", PLAIN) == []


def test_a_model_that_serves_two_classes_is_listed_once() -> None:
    catalogue = ModelCatalogue({"openai.medium": "gpt-6.1-sol"})
    assert models_of(PRO, "openai", catalogue) == ["gpt-6.1-sol", "gpt-6-luna"]


def test_a_server_of_the_operator_is_limited_like_openai() -> None:
    choice = choose_model(PRO, "compatible", None, OWN)
    assert (choice.provider, choice.model) == ("compatible", "big")
    assert choice.max_output_tokens == choose_model(PRO, "openai", None, OWN).max_output_tokens
    assert models_of(PRO, "compatible", OWN) == ["big", "llama", "openai/gpt-oss-20b", "gpt-4"]
    assert models_of(FREE, "compatible", OWN) == ["llama", "openai/gpt-oss-20b", "gpt-4"]


def test_its_ids_are_taken_as_they_are() -> None:
    """Even one that is another name of OpenAI's model elsewhere."""
    assert choose_model(FREE, "compatible", "gpt-4", OWN).model == "gpt-4"
    assert choose_model(PRO, "openai", "gpt-4", OWN).model == "gpt-6.1-sol"
    with pytest.raises(ModelNotInTier):
        choose_model(FREE, "compatible", "big", OWN)


def test_without_such_a_server_there_is_none() -> None:
    assert providers_of(PLAIN) == CHAT_PROVIDERS
    assert providers_of(OWN) == (*CHAT_PROVIDERS, "compatible")
    assert providers_of(ModelCatalogue(own={"*": []})) == CHAT_PROVIDERS
    with pytest.raises(UnknownProvider):
        choose_model(PRO, "compatible", None, PLAIN)


def test_a_refused_user_is_pointed_to_the_next_tier_that_has_it() -> None:
    with pytest.raises(ProviderNotInTier) as refused:
        choose_model(FREE, "compatible", None, PRO_ONLY)
    assert refused.value.facts["upgrade_tier"] == "pro"
    with pytest.raises(ProviderNotInTier) as refused:
        choose_model(ENTERPRISE, "compatible", None, PRO_ONLY)
    assert refused.value.facts["upgrade_tier"] is None
    with pytest.raises(ProviderNotInTier) as refused:
        choose_model(FREE, "gemini", None, PLAIN)
    assert refused.value.facts == {"provider": "gemini", "tier": "free", "upgrade_tier": "pro"}


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("llama", "compatible", "llama"),
        ("compatible/llama", "compatible", "llama"),
        ("compatible/", "compatible", "big"),
        ("compatible/default", "compatible", "big"),
        ("anthropic/default", "anthropic", "claude-sonnet-5-5"),
        ("openai/default", "openai", "gpt-6.1-sol"),
        ("openai/gpt-oss-20b", "compatible", "openai/gpt-oss-20b"),
        ("compatible/openai/gpt-oss-20b", "compatible", "openai/gpt-oss-20b"),
        ("gpt-4", "openai", "gpt-6.1-sol"),
        ("openai/gpt-6-luna", "openai", "gpt-6-luna"),
        ("default", "openai", "gpt-6.1-sol"),
        ("gemini.standard", "gemini", "gemini-3.8-flash"),
    ],
)
def test_one_word_for_a_model_of_any_provider(name: str, provider: str, model: str) -> None:
    choice = choose_by_name(PRO, name, OWN)
    assert (choice.provider, choice.model) == (provider, model)


def test_a_name_that_nobody_has() -> None:
    for name in ("nobody", "compatible/llama", "openai/gpt-oss-20b"):
        with pytest.raises((ModelNotFound, ModelNotInTier)):
            choose_by_name(PRO, name, PLAIN)


def test_a_server_that_has_a_model_of_this_name_means_that_one() -> None:
    catalogue = ModelCatalogue(own={"*": ["llama", "default"]})
    assert choose_by_name(PRO, "compatible/default", catalogue).model == "default"


def test_what_no_tier_has_at_a_vendor_is_not_found_and_what_a_larger_one_has_is_refused() -> None:
    for name in ("anthropic/nobody-1", "openai/claude-opus-5-5", "openai/gpt-oss-20b"):
        with pytest.raises(ModelNotFound):
            choose_by_name(PRO, name, PLAIN)
    with pytest.raises(ModelNotInTier):
        choose_by_name(FREE, "openai/gpt-4", PLAIN)
    with pytest.raises(ProviderNotInTier):
        choose_by_name(FREE, "anthropic/default", PLAIN)


def called(**parts: object) -> VendorCall:
    """A chat completion that a client wrote itself."""
    said = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "hi"}]}
    return read_chat(orjson.dumps({**said, **parts}))


def test_a_call_has_the_smaller_of_its_own_cap_and_the_tiers() -> None:
    caps = [
        governed_choice(called(**cap), FREE, PLAIN).max_output_tokens
        for cap in ({}, {"max_tokens": 999}, {"max_tokens": 100_000})
    ]
    assert caps == [1_000, 999, 1_000]


def test_a_call_carries_as_much_as_its_tier_and_its_model_let_it() -> None:
    room = 16_000 - 1_000 - RESERVE_TOKENS
    beside = called().input_estimate - 1
    most = called(messages=[{"role": "user", "content": "x" * 4 * (room - beside)}])
    assert most.input_estimate == room
    assert governed_choice(most, FREE, PLAIN).model == "gpt-6-luna"
    more = called(messages=[{"role": "user", "content": "x" * 4 * (room - beside + 1)}])
    with pytest.raises(QuestionTooLong) as too_long:
        governed_choice(more, FREE, PLAIN)
    assert too_long.value.facts == {"tokens": room + 1, "most_tokens": room}
    assert governed_choice(more, PRO, PLAIN).model == "gpt-6-luna"


def test_a_call_needs_its_tier_for_tools() -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    with pytest.raises(FeatureNotInTier):
        governed_choice(called(tools=[tool]), FREE, PLAIN)
    assert governed_choice(called(tools=[tool]), PRO, PLAIN).model == "gpt-6-luna"
