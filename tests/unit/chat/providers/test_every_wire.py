"""What every wire promises, whoever the vendor: members of the family are tested unasked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import ImagePart, Role, TextPart, Tool, ToolCall, ToolResult
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import ModelUnavailable
from services.chat.providers import chat_wires
from services.chat.providers._wire import Wire
from shared.errors import ExpectedFailure, UpstreamFailed
from shared.vendors.failures import VendorFailed, VendorOverloaded, VendorRateLimited
from tests.support.wires import a_prompt, read

SECRET = "sk-of-a-user-0123456789"
PATHS = {
    "openai": ["/v1/chat/completions", "/v1/responses"],
    "anthropic": ["/v1/messages"],
    "gemini": ["/v1/models/a:generateContent", "/v1beta/models/a:streamGenerateContent"],
}
_NAMES = """type error code message details error_code index delta text content_block content id
    model
    usage input_tokens output_tokens stop_reason choices candidates parts functionCall args
    finishReason safetyRatings promptFeedback blockReason usageMetadata promptTokenCount response
    output item tool_calls function arguments finish_reason status violations quotaId"""
names = st.sampled_from(_NAMES.split())
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
_KINDS = """message message_start content_block_start content_block_delta content_block_stop error
    message_delta message_stop response.completed response.output_item.added"""
kinds = st.sampled_from(_KINDS.split())
documents: Any = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    kinds | json_values,
    st.dictionaries(names, json_values, max_size=6),
)


@pytest.fixture(params=sorted(chat_wires))
def wire(request: pytest.FixtureRequest) -> Wire:
    return chat_wires[request.param]


def test_the_vendors_that_chat_speaks_to() -> None:
    assert set(chat_wires) >= {"openai", "anthropic", "gemini"}


def test_it_goes_by_its_name(wire: Wire) -> None:
    assert chat_wires[wire.name] is wire
    assert isinstance(wire.capabilities, Capabilities)


@pytest.mark.parametrize("stream", [False, True])
def test_all_that_is_said_reaches_the_vendor_in_its_order(wire: Wire, stream: bool) -> None:
    said = [
        Said(Role.USER, "question-one"),
        Said(Role.ASSISTANT, "answer-one", tool_calls=[ToolCall("c1", "look", '{"q":"arg-one"}')]),
        Said(Role.TOOL, "", tool_results=[ToolResult("c1", "result-one")]),
        Said(Role.ASSISTANT, "answer-two"),
        Said(Role.USER, "two", parts=[TextPart("question-two"), ImagePart("image/png", b"\x89P")]),
    ]
    tools = [Tool("look", "tool-text", {"type": "object", "properties": {}})]
    prompt = a_prompt(wire.name, *said, system_prompt="system-text", tools=tools)
    request = wire.request(prompt, stream=stream)

    body = orjson.dumps(request.body).decode()
    assert request.path.startswith("/")
    assert prompt.choice.model in request.path + body
    expected = ["question-one", "answer-one", "arg-one", "result-one", "answer-two", "question-two"]
    places = [body.find(word) for word in expected]
    assert places == sorted(places)
    assert -1 not in places
    assert {word in body for word in ("system-text", "tool-text", "iVA=", "1000")} == {True}


@pytest.mark.parametrize("arguments", ["", "null", "[1]", '{"a":', '{"a":' * 250 + "1" + "}" * 250])
def test_a_call_can_be_told_whatever_its_arguments_are(wire: Wire, arguments: str) -> None:
    call = Said(Role.ASSISTANT, "", tool_calls=[ToolCall("c1", "look", arguments)])
    said = [call, Said(Role.TOOL, "", tool_results=[ToolResult("c1", "found")])]
    request = wire.request(a_prompt(wire.name, "a", *said, tools=[Tool("look")]), stream=False)
    assert b"found" in orjson.dumps(request.body)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"null", b"[]", b"{}", b"data: {\n\n"])
def test_what_is_no_answer_is_a_failure_that_may_be_charged(
    wire: Wire, streamed: bool, body: bytes
) -> None:
    for reader in _readers(wire, streamed):
        _, failure = read(reader, [body])
        assert isinstance(failure, VendorFailed)
        assert failure.billed


@settings(deadline=None)
@given(st.lists(documents, max_size=4), st.booleans(), st.booleans())
def test_whatever_the_vendor_says_is_read_or_is_an_expected_failure(
    said: list[Any], streamed: bool, bare: bool
) -> None:
    lines = [orjson.dumps(document, default=str) for document in said if _fits(document)]
    data = b"\n".join(lines if bare else [b"data: " + line for line in lines])
    for wire in chat_wires.values():
        for reader in _readers(wire, streamed):
            _, failure = read(reader, [data])
            assert failure is None or isinstance(failure, ExpectedFailure)


def _fits(document: Any) -> bool:
    try:
        orjson.dumps(document)
    except TypeError:
        return False
    return True


@settings(deadline=None)
@given(st.integers(300, 599), st.dictionaries(names, json_values, max_size=4))
def test_every_refusal_is_an_expected_failure_and_free(status: int, body: Any) -> None:
    for wire in chat_wires.values():
        failure = wire.refusal(status, body, {})
        assert isinstance(failure, ExpectedFailure)
        if isinstance(failure, VendorFailed):
            assert not failure.billed


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_what_the_vendor_writes_is_never_passed_on(wire: Wire, status: int) -> None:
    error = {"message": f"Incorrect key {SECRET}", "type": SECRET, "code": SECRET, "param": SECRET}
    failure = wire.refusal(status, {"error": error}, {"x-request-id": SECRET})
    assert SECRET not in f"{failure} {failure.message} {failure.facts} {failure.__cause__}"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
def test_trouble_of_the_vendor_is_told_as_such(wire: Wire, status: int) -> None:
    failure = wire.refusal(status, {}, {"retry-after": "7"})
    assert type(failure) is VendorOverloaded
    assert failure.retry_after == timedelta(seconds=7)


def test_a_rate_limit_says_how_long_to_wait(wire: Wire) -> None:
    failure = wire.refusal(429, {}, {"retry-after-ms": "1500", "retry-after": "9"})
    assert type(failure) is VendorRateLimited
    assert failure.retry_after == timedelta(milliseconds=1500)
    assert isinstance(wire.refusal(404, {}, {}), ModelUnavailable)


@pytest.mark.parametrize(
    "model", ["../../v1/files", "a/b", "a?key=1", "a%2e", "a:b", "", "..", "a\n"]
)
def test_a_models_id_leads_to_no_other_path(wire: Wire, model: str) -> None:
    prompt = a_prompt(wire.name)
    object.__setattr__(prompt.choice, "model", model)
    try:
        path = wire.request(prompt, stream=True).path
    except UpstreamFailed:
        return
    assert path == wire.request(a_prompt(wire.name), stream=True).path


def _readers(wire: Wire, streamed: bool) -> list[Any]:
    own = wire.request(a_prompt(wire.name), stream=streamed).reader()
    paths = PATHS.get(wire.name, PATHS["openai"][:1])
    return [own, *(wire.raw_reader(path, streamed=streamed) for path in paths)]
