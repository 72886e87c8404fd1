"""Which vendor's id serves a model class."""

from __future__ import annotations

import pytest

from shared.model_catalogue import ModelCatalogue


def test_an_operator_overrides_a_class_without_a_release() -> None:
    catalogue = ModelCatalogue.from_json('{"openai.small": "gpt-next-mini"}')
    assert catalogue.id_of("openai.small") == "gpt-next-mini"
    assert catalogue.id_of("openai.large") == ModelCatalogue().id_of("openai.large")


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_no_override_is_the_table(text: str) -> None:
    assert ModelCatalogue.from_json(text).id_of("openai.small") == "gpt-6-luna"


@pytest.mark.parametrize(
    "text",
    ['{"openai.tiny": "x"}', "[]", '"text"', '{"openai.small": 5}', "{", '{"openai.small": null}'],
)
def test_an_override_that_cannot_be_meant_fails_at_start(text: str) -> None:
    with pytest.raises(ValueError):
        ModelCatalogue.from_json(text)


@pytest.mark.parametrize(
    ("written", "class_"),
    [
        ("gpt-3.5-turbo", "openai.small"),
        ("gpt-4", "openai.large"),
        ("gemini-pro", "gemini.standard"),
        ("claude-3-sonnet", "anthropic.sonnet"),
        ("claude-3-opus", "anthropic.opus"),
        ("anthropic.opus", "anthropic.opus"),
    ],
)
def test_the_specifications_names_reach_the_model_of_today(written: str, class_: str) -> None:
    catalogue = ModelCatalogue.from_json(f'{{"{class_}": "served-today"}}')
    assert catalogue.resolve(written) == "served-today"


def test_a_vendors_own_id_is_left_as_it_is() -> None:
    assert ModelCatalogue().resolve("claude-opus-5-5") == "claude-opus-5-5"
    with pytest.raises(KeyError):
        ModelCatalogue().id_of("claude-opus-5-5")


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-6.1-sol", 1_050_000),
        ("claude-haiku-4-5", 200_000),
        ("claude-haiku-5-5", 1_000_000),
        ("gemini-3.8-flash", 1_000_000),
        ("gpt-4o", 128_000),
        ("anything-else", 128_000),
        ("", 128_000),
    ],
)
def test_each_model_has_a_context(model: str, tokens: int) -> None:
    assert ModelCatalogue().context_of(model) == tokens


def test_an_operator_says_how_large_a_context_is() -> None:
    catalogue = ModelCatalogue.from_json("", '{"my-llama": 8192, "gpt-6-luna": 400000}')
    assert catalogue.context_of("my-llama") == 8192
    assert catalogue.context_of("gpt-6-luna") == 400_000
    assert catalogue.context_of("gpt-6.1-sol") == 1_050_000


@pytest.mark.parametrize(
    "text", ['{"m": 0}', '{"m": "8k"}', '{"m": true}', "[1]", "{", '{"m": 1.5}']
)
def test_a_context_that_cannot_be_meant_fails_at_start(text: str) -> None:
    with pytest.raises(ValueError):
        ModelCatalogue.from_json("", text)


@pytest.mark.parametrize("text", ['{"*": "llama"}', '{"*": [1]}', '{"*": [""]}', "[]", "{"])
def test_models_that_cannot_be_meant_fail_at_start(text: str) -> None:
    with pytest.raises(ValueError):
        ModelCatalogue.from_json("", own=text)
