"""What a turn is taken for before its vendor has counted, and what it cost with all its calls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.chat.domain.content import AnswerFormat, Role, Tool, ToolCall, ToolResult, Utterance
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.turn import Abandoned, Outcome, Prompt, Settlement
from services.chat.domain.usage import Usage
from shared.ids import EventId, uuid7

LONG = "x" * 400  # about a hundred tokens
USAGE = Usage(input_tokens=10, output_tokens=5)


def a_prompt(*said: Utterance, system: str | None = None, tools: tuple[Tool, ...] = ()) -> Prompt:
    return Prompt(ModelChoice("openai", "gpt-6-luna", 100), system, said, "user", tools)


HELLO = Utterance(Role.USER, "hi")
CALL, RESULT = ToolCall("1", "look", "{}"), ToolResult("1", "seen")


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        (a_prompt(Utterance(Role.USER, LONG)), a_prompt(Utterance(Role.USER, ""))),
        (a_prompt(HELLO, system="x" + LONG), a_prompt(HELLO, system="x")),
        (
            a_prompt(Utterance(Role.ASSISTANT, LONG, tool_calls=[CALL])),
            a_prompt(Utterance(Role.ASSISTANT, "", tool_calls=[CALL])),
        ),
        (
            a_prompt(Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall("1", "look", LONG)])),
            a_prompt(Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall("1", "look", "")])),
        ),
        (
            a_prompt(Utterance(Role.TOOL, "", tool_results=[ToolResult("1", LONG)])),
            a_prompt(Utterance(Role.TOOL, "", tool_results=[ToolResult("1", "")])),
        ),
        (
            a_prompt(HELLO, tools=(Tool("look", LONG),)),
            a_prompt(HELLO, tools=(Tool("look"),)),
        ),
        (
            a_prompt(HELLO, tools=(Tool("look", parameters={"title": LONG}),)),
            a_prompt(HELLO, tools=(Tool("look", parameters={"title": ""}),)),
        ),
        (
            replace(a_prompt(HELLO), answer_format=AnswerFormat({"title": LONG})),
            replace(a_prompt(HELLO), answer_format=AnswerFormat({"title": ""})),
        ),
    ],
    ids=["text", "system prompt", "text beside a call", "call", "result", "tool", "schema", "form"],
)
def test_everything_that_is_sent_is_estimated(longer: Prompt, shorter: Prompt) -> None:
    assert longer.input_estimate - shorter.input_estimate == 100


def test_a_system_prompt_is_a_message_of_its_own() -> None:
    one, two = a_prompt(HELLO), a_prompt(HELLO, HELLO)
    assert a_prompt(HELLO, system="hi").input_estimate == two.input_estimate > one.input_estimate


@pytest.mark.parametrize(
    ("outcome", "text", "calls", "has_content", "can_be_repeated"),
    [
        (Outcome.DONE, "", [], False, True),
        (Outcome.STOPPED, "", [], False, False),
        (Outcome.STOPPED, "This", [], True, True),
        (Outcome.STOPPED, "", [CALL], True, True),
    ],
)
def test_what_there_is_to_say_again(
    outcome: Outcome, text: str, calls: list[ToolCall], has_content: bool, can_be_repeated: bool
) -> None:
    settlement = Settlement(outcome, text, USAGE, "openai", "x", None, 12, tool_calls=calls)
    assert settlement.has_content is settlement.reached_user is has_content
    assert settlement.can_be_repeated is can_be_repeated
    assert replace(settlement, shows_more=True).reached_user


@pytest.mark.parametrize(
    ("answer", "lost", "whole"),
    [
        (7, [], 7),
        (7, [3, 4], 14),
        (7, [None, 4], 11),
        (None, [4], 4),
        (None, [0], 0),
        (None, [None], None),
        (None, [], None),
    ],
)
def test_a_turn_costs_all_its_calls_as_far_as_that_is_known(
    answer: int | None, lost: list[int | None], whole: int | None
) -> None:
    settlement = Settlement(
        Outcome.DONE,
        "This.",
        USAGE,
        "openai",
        "gpt-6-luna",
        "resp-1",
        12,
        abandoned=[
            Abandoned(EventId(uuid7()), "gemini", "gemini-x", USAGE, cost_microusd=cost)
            for cost in lost
        ],
        cost_microusd=answer,
    )
    assert settlement.whole_cost_microusd == whole
