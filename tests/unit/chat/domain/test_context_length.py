"""What certainly does not fit is refused, and what may fit is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.chat.domain.content import (
    AnswerFormat,
    ImagePart,
    Role,
    Tool,
    ToolCall,
    ToolResult,
    Utterance,
)
from services.chat.domain.context_length import require_context
from services.chat.domain.errors import QuestionTooLong
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.turn import Prompt


def a_prompt(*said: Utterance, system: str | None = None) -> Prompt:
    return Prompt(ModelChoice("openai", "gpt-6-luna", 100), system, said, "user")


LONG = "x" * 1_000  # 200 tokens at least


@pytest.mark.parametrize(
    "prompt",
    [
        a_prompt(Utterance(Role.USER, LONG)),
        a_prompt(Utterance(Role.USER, "hi"), system=LONG),
        a_prompt(Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall("1", "look", LONG)])),
        a_prompt(Utterance(Role.TOOL, "", tool_results=[ToolResult("1", LONG)])),
    ],
)
def test_everything_that_is_sent_counts(prompt: Prompt) -> None:
    require_context(prompt, model_context=200, tier_context=0)
    require_context(prompt, model_context=200, tier_context=1_000)
    with pytest.raises(QuestionTooLong):
        require_context(prompt, model_context=199, tier_context=0)
    with pytest.raises(QuestionTooLong):
        require_context(prompt, model_context=300, tier_context=199)


LETTERS = "a b c d " * 1_000  # 4,000 tokens, which by their bytes may be 1,600
PICTURES = tuple(ImagePart(url="https://pictures.invalid/a.png") for _ in range(2))


@pytest.mark.parametrize(
    "prompt",
    [
        a_prompt(Utterance(Role.USER, LETTERS)),
        a_prompt(Utterance(Role.USER, "hi"), system=LETTERS),
        a_prompt(Utterance(Role.USER, "hi", parts=PICTURES)),
        replace(a_prompt(Utterance(Role.USER, "hi")), tools=[Tool("look", LETTERS)]),
        replace(
            a_prompt(Utterance(Role.USER, "hi")),
            answer_format=AnswerFormat({"description": LETTERS}),
        ),
    ],
)
def test_what_a_tier_grants_is_counted_in_tokens(prompt: Prompt) -> None:
    require_context(prompt, model_context=1_600, tier_context=0)
    require_context(prompt, model_context=10_000, tier_context=4_650)
    with pytest.raises(QuestionTooLong) as refused:
        require_context(prompt, model_context=10_000, tier_context=4_590)
    # Without the room for the answer, and for what vendors add.
    assert refused.value.facts["most_tokens"] == 4_590 - 100 - 500
