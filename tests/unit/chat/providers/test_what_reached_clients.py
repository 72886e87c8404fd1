"""Whatever a vendor answers a client's own call with reached them, and counts in their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from services.chat.domain.frames import Began, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.relaying import Heard
from services.chat.domain.turn import Outcome, Settlement, Surface
from services.chat.domain.usage import Usage
from services.chat.providers import chat_wires
from shared.vendors.failures import VendorFailed
from tests.support.chat_calls import a_hold
from tests.support.wires import read, whole

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GEMINI = "/v1beta/models/gemini-3.8-flash:generateContent"
OPENAI_USAGE = {"prompt_tokens": 9, "completion_tokens": 5}
RESPONSES_USAGE = {"input_tokens": 9, "output_tokens": 5}
ARGUMENTS = '{"city": "Oslo"}'

FUNCTION = {"name": "weather", "arguments": ARGUMENTS}
CUSTOM = {"id": "call_1", "type": "custom", "custom": {"name": "weather", "input": ARGUMENTS}}
ITEMS: dict[str, dict[str, Any]] = {
    "custom_tool_call": {"name": "weather", "input": ARGUMENTS},
    "local_shell_call": {"action": {"type": "exec", "command": ["ls"], "env": {}}},
    "shell_call": {"action": {"commands": ["ls"]}},
    "apply_patch_call": {"operation": {"type": "update_file", "path": "a.py", "diff": "+1"}},
    "computer_call": {"actions": [{"type": "click", "x": 1, "y": 2}]},
    "tool_search_call": {"arguments": {"query": "weather"}},
}


def heard(provider: str, path: str, body: bytes, *, streamed: bool) -> tuple[Heard, list[Frame]]:
    frames = whole(chat_wires[provider].raw_reader(path, streamed=streamed), body)
    all_of_it = Heard()
    all_of_it.is_asked = True
    all_of_it.take(frames)
    return all_of_it, frames


def settled(all_of_it: Heard, *, ended_as: Outcome | None = None) -> Settlement:
    hold = a_hold(input_estimate=4, surface=Surface.OPENAI)
    return all_of_it.settlement(
        hold, None, max_output_tokens=1_000, ended_as=ended_as, elapsed_ms=1
    )


def calls_in(frames: Sequence[Frame]) -> dict[int, str]:
    """What each call is asked."""
    asked: dict[int, str] = {}
    for frame in frames:
        if isinstance(frame, ToolCallPiece):
            asked[frame.index] = asked.get(frame.index, "") + frame.arguments
    return asked


def events(*documents: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(document) for document in documents)


def completion(**message: Any) -> bytes:
    reason = "function_call" if "function_call" in message else "tool_calls"
    choice = {"index": 0, "message": {"content": None, **message}, "finish_reason": reason}
    head = {"id": "c-1", "model": "gpt-6-luna"}
    return orjson.dumps({**head, "choices": [choice], "usage": OPENAI_USAGE})


def chunks(*deltas: Any, finish: str) -> bytes:
    head = {"id": "c-1", "model": "gpt-6-luna"}
    said = [{**head, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return events(*said, last, {**head, "choices": [], "usage": OPENAI_USAGE})


def test_a_function_of_before_there_were_tools() -> None:
    all_of_it, frames = heard("openai", CHAT, completion(function_call=FUNCTION), streamed=False)
    assert calls_in(frames) == {0: ARGUMENTS}
    assert settled(all_of_it).has_content
    pieces = [
        {"function_call": {"name": "weather", "arguments": ""}},
        {"function_call": {"arguments": ARGUMENTS[:5]}},
        {"function_call": {"arguments": ARGUMENTS[5:]}},
    ]
    data = chunks(*pieces, finish="function_call")
    all_of_it, frames = heard("openai", CHAT, data, streamed=True)
    assert calls_in(frames) == {0: ARGUMENTS}
    assert settled(all_of_it).has_content


def test_thinking_that_is_told_and_shown_is_estimated_once() -> None:
    all_of_it = Heard()
    all_of_it.is_asked = True
    told = Usage(90, output_tokens=5, output_reasoning_tokens=5)
    all_of_it.take([Began("c-1", None, told), Thinking("x" * 16), Text("y" * 8)])
    assert settled(all_of_it, ended_as=Outcome.STOPPED).usage.output_tokens == 5 + 2


def test_a_call_that_is_told_both_ways_is_one() -> None:
    call = {"id": "call_1", "type": "function", "function": FUNCTION}
    body = completion(function_call=FUNCTION, tool_calls=[call])
    assert calls_in(heard("openai", CHAT, body, streamed=False)[1]) == {0: ARGUMENTS}


def test_a_tool_whose_input_is_any_text() -> None:
    all_of_it, frames = heard("openai", CHAT, completion(tool_calls=[CUSTOM]), streamed=False)
    assert calls_in(frames) == {0: ARGUMENTS}
    first = {"index": 0, **CUSTOM, "custom": {"name": "weather", "input": ""}}
    later = {"index": 0, "custom": {"input": ARGUMENTS}}
    data = chunks({"tool_calls": [first]}, {"tool_calls": [later]}, finish="tool_calls")
    all_of_it, frames = heard("openai", CHAT, data, streamed=True)
    assert calls_in(frames) == {0: ARGUMENTS}
    assert all_of_it.letters == len(ARGUMENTS)


@pytest.mark.parametrize("kind", ITEMS)
def test_the_responses_own_calls(kind: str) -> None:
    item = {"type": kind, "id": "i", "call_id": "call_1", **ITEMS[kind]}
    (given,) = [value for name, value in ITEMS[kind].items() if name != "name"]
    given = given if isinstance(given, str) else orjson.dumps(given).decode()
    head = {"id": "r", "model": "gpt-6-luna"}
    response = {**head, "status": "completed", "output": [item], "usage": RESPONSES_USAGE}
    all_of_it, frames = heard("openai", RESPONSES, orjson.dumps(response), streamed=False)
    assert calls_in(frames) == {0: given}
    assert settled(all_of_it).has_content

    place = {"output_index": 0}
    empty = {name: "" if isinstance(value, str) else {} for name, value in ITEMS[kind].items()}
    said = [
        {"type": "response.created", "response": {**head, "status": "in_progress"}},
        {"type": "response.output_item.added", **place, "item": {**item, **empty}},
    ]
    if kind == "custom_tool_call":
        delta = "response.custom_tool_call_input"
        said += [{"type": f"{delta}.delta", **place, "delta": part} for part in ("{", given[1:])]
        said.append({"type": f"{delta}.done", **place, "input": given})
    said += [
        {"type": "response.output_item.done", **place, "item": item},
        {"type": "response.completed", "response": response},
    ]
    all_of_it, frames = heard("openai", RESPONSES, events(*said), streamed=True)
    assert calls_in(frames) == {0: given}
    assert settled(all_of_it).has_content


# Kinds of content that no frame of ours tells.
UNTOLD = {
    "openai": (
        RESPONSES,
        {
            "id": "r",
            "status": "completed",
            "output": [{"type": "unheard_of", "content": "?"}],
            "usage": RESPONSES_USAGE,
        },
    ),
    "anthropic": (
        MESSAGES,
        {
            "type": "message",
            "id": "m",
            "stop_reason": "end_turn",
            "content": [{"type": "server_tool_use", "name": "unheard_of", "input": {}}],
            "usage": {"input_tokens": 9, "output_tokens": 5},
        },
    ),
    "gemini": (
        GEMINI,
        {
            "responseId": "g",
            "candidates": [
                {
                    "finishReason": "STOP",
                    "content": {
                        "parts": [
                            {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                            {"executableCode": {"code": "1"}},
                        ]
                    },
                }
            ],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5},
        },
    ),
}


@pytest.mark.parametrize("provider", UNTOLD)
def test_what_no_frame_tells_counts_by_its_tokens(provider: str) -> None:
    path, body = UNTOLD[provider]
    all_of_it, _ = heard(provider, path, orjson.dumps(body), streamed=False)
    settlement = settled(all_of_it)
    assert (settlement.outcome, settlement.has_content) == (Outcome.DONE, False)
    assert settlement.reached_user
    # Thinking alone that nobody was shown is nothing.
    thought = replace(settlement.usage, output_reasoning_tokens=settlement.usage.output_tokens)
    assert all_of_it._ended is not None
    all_of_it._ended = replace(all_of_it._ended, usage=thought)
    assert not settled(all_of_it).reached_user


COMPACTION = {"type": "compaction", "content": "An essay about tooltips."}
SUMMED_UP = {
    "type": "message",
    "id": "m",
    "stop_reason": "compaction",
    "content": [COMPACTION],
    "usage": {
        "input_tokens": 0,
        "output_tokens": 0,
        "iterations": [{"type": "compaction", "input_tokens": 900, "output_tokens": 30}],
    },
}


def test_what_a_conversation_was_summed_up_to_is_an_answer() -> None:
    all_of_it, _ = heard("anthropic", MESSAGES, orjson.dumps(SUMMED_UP), streamed=False)
    settlement = settled(all_of_it)
    assert (settlement.outcome, settlement.text) == (Outcome.DONE, COMPACTION["content"])
    assert settlement.reached_user
    assert settlement.can_be_repeated
    said = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction"}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "compaction_delta", "content": COMPACTION["content"]},
        },
    ]
    end = {"type": "message_delta", "delta": {"stop_reason": "compaction"}}
    stop = {"type": "message_stop"}
    streamed = heard("anthropic", MESSAGES, events(*said, end, stop), streamed=True)[0]
    assert settled(streamed).outcome is Outcome.DONE
    # Whoever leaves it has heard so much of it.
    left = Heard()
    left.is_asked = True
    left.take(chat_wires["anthropic"].raw_reader(MESSAGES, streamed=True).feed(events(*said)))
    settlement = settled(left, ended_as=Outcome.CLIENT_GONE)
    assert settlement.reached_user
    assert settlement.usage.output_tokens == len(COMPACTION["content"]) // 4


def test_what_a_vendor_has_begun_to_sum_up_may_be_charged() -> None:
    said = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "?"}},
    ]
    reader = chat_wires["anthropic"].raw_reader(MESSAGES, streamed=True)
    frames, failure = read(reader, [events(*said)])
    assert [type(frame) for frame in frames] == [Began]
    assert isinstance(failure, VendorFailed)
    assert failure.billed


def test_a_summing_up_that_failed_is_no_trouble_of_the_vendors() -> None:
    failed = {**SUMMED_UP, "content": [{"type": "compaction", "content": None}]}
    settlement = settled(heard("anthropic", MESSAGES, orjson.dumps(failed), streamed=False)[0])
    assert (settlement.outcome, settlement.text) == (Outcome.DONE, "")


def test_a_cache_that_was_only_written_is_billed_and_costs_the_tier_nothing() -> None:
    counts = {"input_tokens": 3, "cache_creation_input_tokens": 5_000, "output_tokens": 0}
    body = {**SUMMED_UP, "stop_reason": "max_tokens", "content": [], "usage": counts}
    settlement = settled(heard("anthropic", MESSAGES, orjson.dumps(body), streamed=False)[0])
    assert (settlement.outcome, settlement.reached_user) == (Outcome.DONE, False)
    usage = settlement.usage
    assert (usage.source, usage.input_tokens, usage.cache_write_tokens) == (
        "provider",
        5_003,
        5_000,
    )


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_an_answer_that_was_left_has_the_tier_of_service_that_it_began_with(path: str) -> None:
    head = {"id": "c-1", "model": "gpt-6.1-sol", "service_tier": "priority"}
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**head, "status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "y" * 8},
    ]
    if path == CHAT:
        said = [{**head, "choices": [{"index": 0, "delta": {"content": "y" * 8}}]}]
    left = Heard()
    left.is_asked = True
    left.take(chat_wires["openai"].raw_reader(path, streamed=True).feed(events(*said)))
    usage = settled(left, ended_as=Outcome.CLIENT_GONE).usage
    assert usage == Usage(4, output_tokens=2, source="estimated", service_tier="priority")


def test_an_outline_of_a_whole_responses_reasoning_reached_the_client() -> None:
    reasoning = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "First, "}],
        "content": [{"type": "reasoning_text", "text": "what is it?"}],
    }
    body = {
        "id": "r",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [reasoning],
        "usage": {**RESPONSES_USAGE, "output_tokens_details": {"reasoning_tokens": 5}},
    }
    all_of_it, frames = heard("openai", RESPONSES, orjson.dumps(body), streamed=False)
    thinking = [frame for frame in frames if isinstance(frame, Thinking)]
    assert thinking == [Thinking("First, "), Thinking("what is it?")]
    assert settled(all_of_it).reached_user
    sealed = {**reasoning, "summary": [], "content": None, "encrypted_content": "gAAA"}
    body["output"] = [sealed]
    assert not settled(
        heard("openai", RESPONSES, orjson.dumps(body), streamed=False)[0]
    ).reached_user


def test_thinking_that_was_shown_reached_the_client() -> None:
    said = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {"type": "content_block_delta", "index": 0, "delta": {"thinking": "Well, what is it?"}},
    ]
    reader = chat_wires["anthropic"].raw_reader(MESSAGES, streamed=True)
    for is_unheard, reached in ((False, True), (True, False)):
        left = Heard()
        left.is_asked, left.is_unheard = True, is_unheard
        left.take(reader.feed(events(*said)))
        settlement = settled(left, ended_as=Outcome.CLIENT_GONE)
        assert (settlement.has_content, settlement.reached_user) == (False, reached)
        # What it read, the vendor has told; what it thought is a guess.
        usage = settlement.usage
        assert (usage.input_tokens, usage.output_tokens, usage.source) == (9, 5, "estimated")
