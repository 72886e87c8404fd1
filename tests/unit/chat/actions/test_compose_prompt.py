"""What goes to the vendor, by tier, provider and model, and what is written of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from services.chat.actions.compose_prompt import Composed, ComposePrompt
from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import (
    AnswerFormat,
    ImagePart,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
    Utterance,
)
from services.chat.domain.conversation import DEFAULT_NAME, MessageId
from services.chat.domain.errors import (
    BadAttachment,
    CapabilityMissing,
    FeatureNotInTier,
    MessageNotFound,
    NotAQuestion,
    QuestionTooLong,
    ToolResultsUnexpected,
)
from services.chat.domain.model_choice import choose_model
from services.chat.domain.ports import AskedBefore, Beginning
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from tests.support.chat import ScriptedProvider, a_question, a_session

IMAGE = ImagePart("image/png", b"x" * 100)
TOOL = Tool("f")
CALL = ToolCall("1", "f", "{}")
CALLED = [Utterance(Role.USER, "do"), Utterance(Role.ASSISTANT, "", tool_calls=[CALL])]


def composed(
    history: Any = (),
    *,
    tier: str = "enterprise",
    provider: str = "openai",
    before: AskedBefore | None = None,
    can: Capabilities | None = None,
    name: str = "Named",
    content: str = "now",
    contexts: dict[str, int] | None = None,
    **parts: Any,
) -> Composed:
    session = a_session(name=name)
    vendor = ScriptedProvider()
    vendor.capabilities = can or Capabilities()
    catalogue = ModelCatalogue(contexts=contexts)
    compose = ComposePrompt({provider: vendor}, catalogue, 24_000, 1_000)
    return compose(
        a_question(session, content, **parts),
        TIERS[tier],
        choose_model(TIERS[tier], provider, None, catalogue),
        Beginning(session, history, asked_before=before),
    )


def a_question_of_before(role: Role = Role.USER, **parts: Any) -> AskedBefore:
    given: dict[str, Any] = {
        "id": MessageId(uuid4()),
        "role": role,
        "content": "before",
        "tool_results": (),
        "images": (),
        "parent_id": MessageId(uuid4()),
    }
    return AskedBefore(**(given | parts))


def test_images_come_before_the_words() -> None:
    result = composed(images=(IMAGE,))
    (asked,) = result.prompt.utterances
    assert list(asked.parts) == [IMAGE, TextPart("now")]
    assert asked.content == "now"
    assert list(result.asked.images) == [IMAGE]


def test_results_come_before_the_words_and_know_their_tools() -> None:
    result = composed(CALLED, tool_results=(ToolResult("1", "done"),))
    *_, results, words = result.prompt.utterances
    assert (results.role, words.content) == (Role.TOOL, "now")
    assert [r.name for r in result.asked.tool_results] == ["f"]
    only = composed(CALLED, content="", tool_results=(ToolResult("1", "done"),))
    assert [u.role for u in only.prompt.utterances] == [Role.USER, Role.ASSISTANT, Role.TOOL]


@pytest.mark.parametrize("history", [(), CALLED[:1], [*CALLED, Utterance(Role.ASSISTANT, "x")]])
def test_results_follow_their_calls_at_once(history: Any) -> None:
    with pytest.raises(ToolResultsUnexpected):
        composed(history, tool_results=(ToolResult("1", "done"),))


def test_a_question_again_is_written_once() -> None:
    before = a_question_of_before(images=(IMAGE,))
    result = composed(before=before, answers_again=MessageId(uuid4()), content="")
    assert result.question_id == before.id
    assert result.asked.answers_again
    (asked,) = result.prompt.utterances
    assert (asked.content, list(asked.images)) == ("before", [IMAGE])


def test_a_question_in_other_words_follows_what_the_old_one_followed() -> None:
    before = a_question_of_before(images=(IMAGE,))
    kept = composed(before=before, edits=before.id)
    assert (kept.asked.parent_id, kept.asked.branches) == (before.parent_id, True)
    assert (kept.question_id, kept.asked.content) == (None, "now")
    assert list(kept.asked.images) == [IMAGE]
    assert composed(before=before, edits=before.id, images=()).asked.images == ()


def test_what_is_no_question_cannot_be_put_in_other_words() -> None:
    before = a_question_of_before()
    with pytest.raises(NotAQuestion):
        composed(before=before, edits=MessageId(uuid4()))
    results = a_question_of_before(Role.TOOL)
    with pytest.raises(NotAQuestion):
        composed(before=results, edits=results.id)
    with pytest.raises(MessageNotFound):
        composed(edits=MessageId(uuid4()))
    with pytest.raises(MessageNotFound):
        composed(answers_again=MessageId(uuid4()))


@pytest.mark.parametrize(
    ("tier", "provider", "parts"),
    [
        ("free", "openai", {"images": (IMAGE,)}),
        ("free", "openai", {"tools": (TOOL,)}),
        ("pro", "gemini", {"images": (IMAGE,)}),
        ("pro", "gemini", {"tools": (TOOL,)}),
        ("pro", "anthropic", {"effort": "high"}),
    ],
)
def test_a_tier_has_what_it_is_sold_with(tier: str, provider: str, parts: dict[str, Any]) -> None:
    with pytest.raises(FeatureNotInTier):
        composed(tier=tier, provider=provider, **parts)
    composed(tier="enterprise", provider=provider, **parts)


@pytest.mark.parametrize(
    ("lacks", "parts"),
    [
        ("images", {"images": (IMAGE,)}),
        ("image_urls", {"images": (ImagePart(url="https://example.com"),)}),
        ("tools", {"tools": (TOOL,)}),
        ("answer_format", {"answer_format": AnswerFormat()}),
    ],
)
def test_what_a_provider_cannot_do_is_told(lacks: str, parts: dict[str, Any]) -> None:
    can = replace(Capabilities(), **{lacks: False})  # type: ignore[arg-type]
    with pytest.raises(CapabilityMissing) as refused:
        composed(can=can, **parts)
    assert refused.value.facts["capability"] == lacks


def test_what_was_said_elsewhere_is_shown_as_this_one_can_take_it() -> None:
    history = [
        Utterance(Role.USER, "look", parts=(IMAGE, TextPart("look"))),
        Utterance(Role.ASSISTANT, "", tool_calls=[CALL]),
        Utterance(Role.TOOL, "", tool_results=[ToolResult("1", "x")]),
        Utterance(Role.ASSISTANT, "A cat."),
    ]
    result = composed(history, tier="free")
    assert [u.content for u in result.prompt.utterances] == ["[image]\nlook", "A cat.", "now"]
    assert len(composed(history).prompt.utterances) == 5


def test_an_image_has_a_largest_size() -> None:
    with pytest.raises(BadAttachment):
        composed(images=(ImagePart("image/png", b"x" * 1_001),))


def test_what_does_not_fit_the_model_is_left_out_and_counted() -> None:
    history = [
        Utterance(role, f"{number} " + "word " * 200)
        for number in range(10)
        for role in (Role.USER, Role.ASSISTANT)
    ]
    model = choose_model(TIERS["free"], "openai", None, ModelCatalogue()).model
    result = composed(history, tier="free", contexts={model: 2_600})
    kept = [u.content.split()[0] for u in result.prompt.utterances]
    assert kept == ["8", "8", "9", "9", "now"]
    assert result.left_out == 16
    with pytest.raises(QuestionTooLong):
        composed(tier="free", contexts={model: 1_600}, content="word " * 200)


@pytest.mark.parametrize(
    ("tier", "provider", "all_of_it"),
    [
        ("pro", "openai", False),
        ("pro", "anthropic", True),
        ("enterprise", "gemini", False),
        ("enterprise", "anthropic", True),
    ],
)
def test_who_is_sold_long_context_gets_it(tier: str, provider: str, all_of_it: bool) -> None:
    history = [
        Utterance(role, "word " * 2_000) for _ in range(20) for role in (Role.USER, Role.ASSISTANT)
    ]
    result = composed(history, tier=tier, provider=provider)
    assert (result.left_out == 0) is all_of_it


@pytest.mark.parametrize(
    ("provider", "wished", "temperature"),
    [
        ("openai", None, 0.7),
        ("openai", 0.0, 0.0),
        ("anthropic", None, None),
        ("gemini", None, None),
        ("gemini", 0.4, 0.4),
    ],
)
def test_openais_models_have_a_usual_temperature(
    provider: str, wished: float | None, temperature: float | None
) -> None:
    prompt = composed(provider=provider, temperature=wished).prompt
    assert prompt.asked_temperature == temperature


def test_who_answers_in_their_place_is_asked_as_they_are_usually_asked() -> None:
    prompt = composed(provider="openai").prompt
    elsewhere = replace(prompt, choice=replace(prompt.choice, provider="anthropic"))
    assert elsewhere.asked_temperature is None
    back = replace(elsewhere, choice=prompt.choice)
    assert back.asked_temperature == 0.7


def test_a_call_that_a_client_wrote_itself_is_asked_as_it_was_written() -> None:
    prompt = replace(composed(provider="openai").prompt, has_usual_temperature=False)
    assert prompt.asked_temperature is None
    assert replace(prompt, temperature=0.2).asked_temperature == 0.2


def test_tools_take_their_room() -> None:
    model = choose_model(TIERS["pro"], "openai", None, ModelCatalogue()).model
    large = Tool("f", "word " * 200)
    composed(tier="pro", contexts={model: 4_700})
    with pytest.raises(QuestionTooLong):
        composed(tier="pro", contexts={model: 4_700}, tools=(large,))


def test_a_session_without_a_name_is_named_by_its_question() -> None:
    assert composed(name=DEFAULT_NAME, content="What is it?").asked.session_name == "What is it?"
    assert composed(name="Mine").asked.session_name is None
