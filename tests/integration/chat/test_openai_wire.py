"""OpenAI's two wires and an operator's own server, over the egress, before the simulator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chat.domain.content import ImagePart, Role, TextPart, Thought, ToolCall, ToolResult
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Text, Thoughts, ToolCallPiece
from services.chat.domain.raw_calls import RawCall
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from tests.integration.chat.test_wires import EITHER_WAY, PIXEL, TOOL, Vendors, _raw, vendors
from tests.support.wires import a_prompt, the_end, told

__all__ = ["vendors"]

REASONING = ["gpt-6-luna", "gpt-6-sol", "gpt-6.1-terra", "gpt-6.1-sol", "gpt-6-astra"]
MODELS = [*REASONING, "gpt-6.2-sol", "gpt-6.2-astra", "gpt-5.6-terra", "gpt-5", "o3", "gpt-4o"]
EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def path_of(vendors: Vendors) -> str:
    return str(vendors.charged()[-1]["path"])


# Models


@pytest.mark.parametrize("model", MODELS)
async def test_every_wish_suits_every_model(vendors: Vendors, model: str) -> None:
    for effort in (None, *EFFORTS):
        wishes: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "stop": ["END"]}
        for tools in ((), (TOOL,)):
            frames = await vendors.answer(
                "openai", "one END two", model=model, effort=effort, tools=tools, **wishes
            )
            assert told(frames)[0].strip() == "You said: one", (model, effort, tools)


@EITHER_WAY
@pytest.mark.parametrize("model", MODELS)
async def test_a_round_of_tools_with_every_model(
    vendors: Vendors, model: str, stream: bool
) -> None:
    asked = "weather now [[sim:reasoning=3]]"
    frames = await vendors.answer("openai", asked, model=model, tools=[TOOL], stream=stream)
    in_responses = model.startswith(("gpt-6-", "gpt-6.1-sol"))
    assert path_of(vendors) == (RESPONSES if in_responses else CHAT)
    (call,) = [f for f in frames if isinstance(f, ToolCallPiece) and f.name]
    thoughts = [block for f in frames if isinstance(f, Thoughts) for block in f.blocks]
    assert bool(thoughts) is in_responses

    made = ToolCall(call.id or "", call.name or "", told(frames)[2][0][1])
    answer = Said(Role.ASSISTANT, "", tool_calls=[made], thoughts=thoughts)
    result = Said(Role.TOOL, "", tool_results=[ToolResult(made.id, "rain")])
    frames = await vendors.answer(
        "openai", "weather now", answer, result, model=model, tools=[TOOL], stream=stream
    )
    assert told(frames)[0].startswith("The tool said: rain")


@EITHER_WAY
async def test_reasoning_goes_back_even_where_tools_need_it_not(
    vendors: Vendors, stream: bool
) -> None:
    block = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    answer = Said(
        Role.ASSISTANT,
        "",
        tool_calls=[ToolCall("call_1", "weather", "{}")],
        thoughts=[Thought("openai", block)],
    )
    result = Said(Role.TOOL, "", tool_results=[ToolResult("call_1", "rain")])
    said: list[Any] = ["hi", answer, result]
    await vendors.answer("openai", *said, model="gpt-6.2-sol", tools=[TOOL], stream=stream)
    assert path_of(vendors) == RESPONSES


# Responses


def in_responses(text: str, **parts: Any) -> Any:
    """A prompt that goes there, and whose tool is not called."""
    return a_prompt("openai", text, model="gpt-6.1-sol", tools=[TOOL], **parts)


@EITHER_WAY
async def test_responses_are_answered_and_counted(vendors: Vendors, stream: bool) -> None:
    prompt = in_responses("good morning [[sim:cached=10,reasoning=7]]")
    frames, failure = await vendors.ask(prompt, stream=stream)

    assert failure is None
    assert told(frames)[0] == "You said: good morning"
    (served,) = vendors.charged()
    assert frames[0] == Began(served["response_id"], "gpt-6.1-sol")
    usage = the_end(frames).usage
    assert usage is not None
    assert served["usage"] == {name: getattr(usage, name) for name in served["usage"]}


@EITHER_WAY
async def test_responses_see_images_instructions_and_history(
    vendors: Vendors, stream: bool
) -> None:
    seen = Said(Role.USER, "a pixel", parts=[TextPart("a pixel"), PIXEL])
    said: list[Any] = ["one", Said(Role.ASSISTANT, "two"), Said(Role.SYSTEM, "three"), seen]
    frames = await vendors.answer(
        "openai",
        *said,
        model="gpt-6-astra",
        tools=[TOOL],
        system_prompt="four five",
        stream=stream,
    )
    usage = the_end(frames).usage
    assert usage is not None
    assert usage.input_tokens == 3 + 2 + 85 + 2 + 10


@pytest.mark.parametrize(
    ("directive", "reason", "why"),
    [
        ("finish=length", "length", "max_output_tokens"),
        ("finish=content_filter", "content_filter", "content_filter"),
        ("refuse", "stop", "refusal"),
        ("odd,split,u2028", "stop", None),
    ],
)
async def test_how_responses_end(
    vendors: Vendors, directive: str, reason: str, why: str | None
) -> None:
    frames, failure = await vendors.ask(in_responses(f"hi 🙂 [[sim:{directive}]]"), stream=True)
    assert failure is None
    assert told(frames)[0]
    assert (the_end(frames).reason, the_end(frames).why) == (reason, why)


@pytest.mark.parametrize("fault", ["cut", "reset", "truncate", "stall", "stream_error"])
async def test_responses_that_break_may_be_charged(vendors: Vendors, fault: str) -> None:
    prompt = in_responses(f"one two three four [[sim:{fault},at=3]]")
    frames, failure = await vendors.ask(prompt, stream=True)
    assert told(frames)[0].strip() == "You said: one"
    assert type(failure) is VendorFailed
    assert failure.billed


@pytest.mark.parametrize("fault", ["stream_error", "stream_error_flat", "stream_failed"])
@pytest.mark.parametrize("at", [0, 3])
async def test_both_shapes_of_an_error_and_a_failed_response(
    vendors: Vendors, fault: str, at: int
) -> None:
    prompt = in_responses(f"one two three four [[sim:{fault},at={at}]]")
    frames, failure = await vendors.ask(prompt, stream=True)
    assert told(frames)[0].strip() == ("You said: one" if at else "")
    assert type(failure) is (VendorFailed if at else VendorOverloaded)


# Refusals that only OpenAI has


@EITHER_WAY
@pytest.mark.parametrize("tools", [(), (TOOL,)])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("context_length", PromptTooLong),
        ("slow_down", VendorRateLimited),
        ("credit_exhausted", VendorQuotaExhausted),
        ("organization_spend_limit", VendorQuotaExhausted),
        ("project_spend_limit", VendorQuotaExhausted),
        ("organization_usage_limit", VendorQuotaExhausted),
        ("not_member", NoUsableKey),
        ("ip_not_authorized", NoUsableKey),
        ("missing_scope_403", NoUsableKey),
        ("region", VendorRefused),
        ("conflict", VendorRejectedRequest),
        ("html_500", VendorOverloaded),
    ],
)
async def test_each_refusal_has_its_meaning(
    vendors: Vendors, stream: bool, tools: Any, fault: str, kind: type[Exception]
) -> None:
    prompt = a_prompt("openai", f"hi [[sim:fault={fault}]]", tools=tools)
    frames, failure = await vendors.ask(prompt, stream=stream)
    assert frames == []
    assert type(failure) is kind


@pytest.mark.parametrize("said", ["true", "false"])
async def test_what_the_vendor_says_of_another_try_is_kept(vendors: Vendors, said: str) -> None:
    text = f"[[sim:fault=overloaded,should_retry={said},retry_after_ms=1500]]"
    _, failure = await vendors.ask(a_prompt("openai", text), stream=True)
    assert isinstance(failure, VendorOverloaded)
    assert failure.again is (said == "true")
    assert failure.retry_after is not None
    assert failure.retry_after.total_seconds() == 1.5


# Clients' own calls


def own_call(path: str, text: str, *, streamed: bool, **parts: Any) -> RawCall:
    said = (
        {"input": text} if path == RESPONSES else {"messages": [{"role": "user", "content": text}]}
    )
    body = {"model": "gpt-6-luna", "stream": streamed, **said, **parts}
    return RawCall("openai", path, json.dumps(body).encode(), streamed)


@EITHER_WAY
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_clients_own_call_is_passed_through_and_accounted(
    vendors: Vendors, path: str, stream: bool
) -> None:
    wants = {"stream_options": {"include_usage": True}} if stream and path == CHAT else {}
    call = own_call(path, "naïve [[sim:cached=4,split]]", streamed=stream, **wants)
    data, frames, failure = await _raw(vendors, call)

    assert failure is None
    assert told(frames)[0] == "You said: naïve"
    (served,) = vendors.charged()
    assert served["response_id"].encode() in data
    usage = the_end(frames).usage
    assert usage is not None
    assert served["usage"] == {name: getattr(usage, name) for name in served["usage"]}


async def test_a_client_that_wants_no_usage_gets_none(vendors: Vendors) -> None:
    data, frames, failure = await _raw(vendors, own_call(CHAT, "hi", streamed=True))
    assert failure is None
    assert the_end(frames) == Ended("stop", None)
    assert b'"usage"' not in data
    assert data.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_clients_own_call_that_breaks_keeps_what_was_said(
    vendors: Vendors, path: str
) -> None:
    call = own_call(path, "one two [[sim:stream_error,at=3]]", streamed=True)
    data, frames, failure = await _raw(vendors, call)
    assert type(failure) is VendorFailed
    assert told(frames)[0].strip() == "You said: one"
    assert b"server_error" not in data


# An operator's own server, for which the simulator stands in


@EITHER_WAY
async def test_an_operators_own_server_answers_without_a_key_of_the_user(
    vendors: Vendors, stream: bool
) -> None:
    vendors.egress.own_server_key = f"sim-operator-{stream}"
    frames = await vendors.answer(
        "compatible", "one two END three", model="gpt-4o", stop=["END"], stream=stream, tools=[TOOL]
    )
    assert told(frames)[0].strip() == "You said: one two"
    (served,) = vendors.simulator.served(key=vendors.egress.own_server_key)
    usage = the_end(frames).usage
    assert usage is not None
    assert served["usage"]["output_tokens"] == usage.output_tokens
    assert [type(frame) for frame in frames if not isinstance(frame, Text)] == [Began, Ended]


async def test_an_operators_own_server_sees_images_by_their_bytes_alone(vendors: Vendors) -> None:
    seen = Said(Role.USER, "a pixel", parts=[TextPart("a pixel"), PIXEL])
    usage = the_end(await vendors.answer("compatible", seen, model="gpt-4o")).usage
    assert usage is not None
    assert usage.input_tokens == 2 + 85
    by_url = Said(Role.USER, "", parts=[ImagePart(url="https://10.0.0.1/a.png")])
    frames, failure = await vendors.ask(a_prompt("compatible", by_url), stream=True)
    assert (frames, type(failure)) == ([], VendorRejectedRequest)


async def test_a_wrong_key_of_the_operator_is_no_fault_of_the_user(vendors: Vendors) -> None:
    vendors.egress.own_server_key = "sim-invalid"
    _, failure = await vendors.ask(a_prompt("compatible", "hi", model="gpt-4o"), stream=True)
    assert type(failure) is VendorRefused
