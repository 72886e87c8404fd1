"""OpenAI's two interfaces: requests into our words, events into theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response as OpenAIResponse

from services.chat.api.fields import json_object
from services.chat.api.openai_chat_answer import ChunkWriter, completion
from services.chat.api.openai_chat_request import chat_request
from services.chat.api.openai_responses_answer import EventWriter, Response
from services.chat.api.openai_responses_request import responses_request
from services.chat.domain.content import (
    ImagePart,
    Role,
    TextPart,
    Thought,
    ToolCall,
    ToolChoice,
)
from services.chat.domain.errors import ItemNotKept, UnsupportedParameter
from services.chat.domain.turn_events import (
    Answered,
    Broken,
    CallsTool,
    Delta,
    FellBack,
    Started,
    TurnEvent,
    UsageTold,
)
from shared.vendors.dropins import BadParameter, UnreadableBody
from shared.vendors.failures import VendorFailed
from tests.support.chat_calls import a_hold, an_answer_message

TOOL = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}


def chat(**parts: Any) -> Any:
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], **parts}
    return chat_request(json_object(orjson.dumps(body)))


def responses(**parts: Any) -> Any:
    body = {"model": "default", "input": "hi", **parts}
    return responses_request(json_object(orjson.dumps(body)))


def test_system_and_developer_messages_become_one_system_prompt() -> None:
    request = chat(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        ]
    )
    assert request.parts["system_prompt"] == "Be brief.\n\nBe kind."
    assert [u.content for u in request.parts["utterances"]] == ["hi"]


def test_results_of_one_turn_are_heard_together() -> None:
    calls = [
        {"id": id_, "type": "function", "function": {"name": "lookup", "arguments": "{}"}}
        for id_ in ("a", "b")
    ]
    request = chat(
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
        ],
        tools=[TOOL],
    )
    _, called, heard = request.parts["utterances"]
    assert [call.id for call in called.tool_calls] == ["a", "b"]
    assert heard.role is Role.TOOL
    assert [(r.call_id, r.content) for r in heard.tool_results] == [("a", "1"), ("b", "2")]


def test_parts_keep_their_order() -> None:
    content = [
        {"type": "text", "text": "before"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
        {"type": "text", "text": "after"},
    ]
    request = chat(messages=[{"role": "user", "content": content}])
    (utterance,) = request.parts["utterances"]
    assert utterance.parts == (
        TextPart("before"),
        ImagePart("image/png", b"ABC", detail="low"),
        TextPart("after"),
    )


def test_wishes_are_read() -> None:
    request = chat(
        max_tokens=9,
        stop="END",
        temperature=1,
        reasoning_effort="low",
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "lookup"}},
        stream=True,
        stream_options={"include_usage": True},
    )
    parts = request.parts
    assert (parts["max_output_tokens"], parts["stop"], parts["temperature"]) == (9, ("END",), 1.0)
    assert (parts["effort"], parts["tool_choice"]) == ("low", ToolChoice("named", "lookup"))
    assert (request.stream, request.usage_in_stream) == (True, True)


@pytest.mark.parametrize("url", ["http://example.com/x.png", "data:text/html;base64,QQ", "data:x"])
def test_only_images_that_can_be_sent_are_taken(url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(BadParameter):
        chat(messages=[{"role": "user", "content": content}])


@pytest.mark.parametrize("media_type", ["image/jpg", "IMAGE/JPEG", "image/jpeg;name=a.jpg"])
def test_an_images_type_is_known_however_it_is_written(media_type: str) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,/9j/"}}
    (said,) = chat(messages=[{"role": "user", "content": [image]}]).parts["utterances"]
    assert said.images[0].media_type == "image/jpeg"


PICTURE = {"type": "image_url", "image_url": {"url": "https://pictures.invalid/a.png"}}
INPUT_PICTURE = {"type": "input_image", "image_url": "https://pictures.invalid/a.png"}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": [PICTURE]},
        {"role": "assistant", "content": [{"type": "text", "text": "Look:"}, PICTURE]},
        {"role": "tool", "tool_call_id": "a", "content": [PICTURE]},
    ],
)
def test_an_image_that_no_model_would_see_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(BadParameter) as refused:
        chat(messages=[{"role": "user", "content": "hi"}, message])
    assert refused.value.facts["param"] == "messages[1].content"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"role": "developer", "content": [INPUT_PICTURE]}, "content"),
        ({"role": "assistant", "content": [INPUT_PICTURE]}, "content"),
        ({"type": "function_call_output", "call_id": "a", "output": [INPUT_PICTURE]}, "output"),
    ],
)
def test_an_image_in_an_item_that_no_model_would_see_is_refused(
    item: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadParameter) as refused:
        responses(input=[{"role": "user", "content": "hi"}, item])
    assert refused.value.facts["param"] == f"input[1].{field}"


@pytest.mark.parametrize("name", ["background", "previous_response_id", "conversation", "prompt"])
def test_what_needs_a_memory_of_the_vendors_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedParameter):
        responses(**{name: "x"})


def test_who_names_an_item_that_nobody_keeps_is_told_what_helps() -> None:
    with pytest.raises(ItemNotKept) as refused:
        responses(
            input=[
                {"role": "user", "content": "hello"},
                {"type": "item_reference", "id": "msg_1"},
            ]
        )
    assert refused.value.facts["param"] == "input[1]"
    assert "store: false" in refused.value.message


def test_items_of_the_assistants_turn_are_put_together() -> None:
    request = responses(
        input=[
            {"role": "user", "content": "hi"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
            {"type": "function_call", "call_id": "c", "name": "lookup", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ]
    )
    _, said, heard = request.parts["utterances"]
    assert (said.content, said.tool_calls) == ("A", (ToolCall("c", "lookup", "{}"),))
    assert said.thoughts[0].block["encrypted_content"] == "x"
    assert heard.tool_results[0].content == "1"


NAMES = st.sampled_from(
    [
        *("messages", "role", "content", "type", "text", "input", "tools", "function", "name"),
        *("model", "stop", "stream", "tool_calls", "id", "image_url", "url", "response_format"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_any_object_is_read_or_refused_by_name(body: dict[str, Any]) -> None:
    for read in (chat_request, responses_request):
        try:
            read(json_object(orjson.dumps(body)))
        except (BadParameter, UnsupportedParameter) as failure:
            assert failure.facts["param"]
        except (UnreadableBody, orjson.JSONEncodeError):
            pass


def events_of(body: bytes) -> list[dict[str, Any]]:
    frames = [frame for frame in body.split(b"\n\n") if frame]
    datas = [frame.partition(b"data: ")[2] for frame in frames]
    return [orjson.loads(data) for data in datas if data != b"[DONE]"]


@given(st.lists(st.text(min_size=1), max_size=5))
def test_any_text_survives_both_wires(pieces: list[str]) -> None:
    hold = a_hold()
    chunks = ChunkWriter(hold, with_usage=False)
    told = events_of(b"".join(chunks.write(Delta(piece)) for piece in pieces))
    assert [chunk["choices"][0]["delta"]["content"] for chunk in told] == pieces
    events = EventWriter(hold, {})
    answered = Answered(an_answer_message(hold, "".join(pieces)), "stop")
    said: list[TurnEvent] = [Started(hold), *map(Delta, pieces), answered]
    told = events_of(b"".join(map(events.write, said)))
    assert [e["delta"] for e in told if e["type"] == "response.output_text.delta"] == pieces
    assert [e["sequence_number"] for e in told] == list(range(len(told)))


def test_text_and_calls_are_items_of_their_own() -> None:
    hold = a_hold()
    calls = (ToolCall("a", "lookup", '{"x":1}'), ToolCall("b", "lookup", "{}"))
    said: list[TurnEvent] = [
        Started(hold),
        Delta("Let me look."),
        CallsTool(0, "a", "lookup", ""),
        CallsTool(0, None, None, '{"x":1}'),
        CallsTool(1, "b", "lookup", "{}"),
        UsageTold(an_answer_message(hold, "Let me look.")),
        Answered(an_answer_message(hold, "Let me look."), "tool_calls", None, calls),
    ]
    told = events_of(b"".join(map(EventWriter(hold, {}).write, said)))
    added = [e for e in told if e["type"] == "response.output_item.added"]
    done = [e for e in told if e["type"] == "response.output_item.done"]
    assert [e["output_index"] for e in added] == [e["output_index"] for e in done] == [0, 1, 2]
    whole = told[-1]["response"]
    assert [item["type"] for item in whole["output"]] == ["message"] + ["function_call"] * 2
    assert [e["item"]["id"] for e in done] == [item["id"] for item in whole["output"]]
    told = events_of(b"".join(map(ChunkWriter(hold, with_usage=True).write, said)))
    deltas = [c["choices"][0]["delta"] for c in told if c["choices"]]
    assert [d["tool_calls"][0].get("id") for d in deltas if "tool_calls" in d] == ["a", None, "b"]
    assert told[-1]["usage"]["total_tokens"] == 3


def test_the_models_phase_stands_with_its_text_and_comes_back_with_it() -> None:
    hold = a_hold()
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"}
    thoughts = [
        Thought("openai", reasoning),
        Thought("openai", {"type": "message", "phase": "commentary"}),
        Thought("anthropic", {"type": "thinking"}),
    ]
    message = replace(an_answer_message(hold, "One moment."), thoughts=thoughts)
    said: list[TurnEvent] = [Started(hold), Delta("One moment."), Answered(message, "stop")]
    echoed = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    told = events_of(b"".join(map(EventWriter(hold, echoed).write, said)))
    done = [e["item"] for e in told if e["type"] == "response.output_item.done"]
    whole = told[-1]["response"]
    assert whole["output"] == [reasoning, *done]
    (text,) = done
    assert (text["phase"], text["content"][0]["text"]) == ("commentary", "One moment.")
    assert OpenAIResponse.model_validate(whole).output_text == "One moment."

    request = responses(input=[{"role": "user", "content": "hi"}, *whole["output"]])
    assert request.parts["utterances"][1].thoughts == tuple(thoughts[:2])


def test_a_fallback_shows_in_the_model() -> None:
    hold = a_hold()
    chunks = ChunkWriter(hold, with_usage=False)
    chunks.write(FellBack("anthropic", "claude-sonnet-5-5", "openai"))
    (chunk,) = events_of(chunks.write(Delta("x")))
    assert chunk["model"] == "claude-sonnet-5-5"


def test_a_failure_in_the_stream_has_the_shape_of_an_error() -> None:
    hold = a_hold()
    broken = Broken(VendorFailed("openai"), None)
    (error,) = events_of(ChunkWriter(hold, with_usage=False).write(broken))
    assert error["error"]["code"] == "vendor_failed"
    (failed,) = events_of(EventWriter(hold, {}).write(broken))
    assert failed["response"]["status"] == "failed"


@pytest.mark.parametrize(
    ("reason", "finish", "status"),
    [
        ("stop", "stop", "completed"),
        ("length", "length", "incomplete"),
        ("content_filter", "content_filter", "incomplete"),
        ("tool_calls", "tool_calls", "completed"),
        ("paused", "length", "incomplete"),
        ("other", "length", "incomplete"),
    ],
)
def test_ends_are_told_in_their_words(reason: str, finish: str, status: str) -> None:
    hold = a_hold()
    answered = Answered(an_answer_message(hold, "x"), reason)
    assert completion(hold, answered)["choices"][0]["finish_reason"] == finish
    assert Response(hold, {}).ended(answered)["status"] == status
    *_, last = events_of(ChunkWriter(hold, with_usage=False).write(answered))
    assert last["choices"][0]["finish_reason"] == finish
