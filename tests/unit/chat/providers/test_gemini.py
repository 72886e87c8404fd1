"""Gemini's wire: what it is asked, and how its answers are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.domain.content import (
    AnswerFormat,
    ContentPart,
    ImagePart,
    Role,
    TextPart,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers.gemini import Gemini, stream_reader, whole_reader
from shared.clients.egress import NoUsableKey
from shared.errors import ExpectedFailure
from shared.pricing import price
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from tests.support.simulator.gemini.errors import REFUSALS
from tests.support.wires import a_prompt, cut_at, read, the_end, told, whole

WIRE = Gemini()
FLASH, ARGON = "gemini-3.8-flash", "gemini-4-argon"
PARAMETERS = {"type": "object", "properties": {"q": {"type": "string"}}}
TOOL = Tool("look", "Looks it up.", PARAMETERS)
RATINGS = [
    {"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"},
    {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH"},
]
RATED = {"HARM_CATEGORY_HARASSMENT": "NEGLIGIBLE", "HARM_CATEGORY_DANGEROUS_CONTENT": "HIGH"}
SAFETY = [
    {"category": f"HARM_CATEGORY_{name}", "threshold": "BLOCK_MEDIUM_AND_ABOVE"}
    for name in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
]


def gemini(*said: Said | str, **parts: Any) -> Prompt:
    return a_prompt("gemini", *said, **parts)


def asked(*said: Said | str, **parts: Any) -> dict[str, Any]:
    return dict(WIRE.request(gemini(*said, **parts), stream=False).body)


def config(**parts: Any) -> dict[str, Any]:
    found: dict[str, Any] = asked(**parts)["generationConfig"]
    return found


def piece(*parts: Any, finish: str | None = None, usage: Any = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, **more}
    if parts:
        candidate["content"] = {"role": "model", "parts": list(parts)}
    if finish is not None:
        candidate["finishReason"] = finish
    counts = {"promptTokenCount": 1200, "cachedContentTokenCount": 1000, **(usage or {})}
    tail = {"modelVersion": FLASH, "responseId": "r1"}
    return {"candidates": [candidate], "usageMetadata": counts, **tail}


LAST = {"candidatesTokenCount": 150, "thoughtsTokenCount": 200, "toolUsePromptTokenCount": 7}
ANSWER = [
    piece({"text": "Let me see.", "thought": True}, usage={"thoughtsTokenCount": 100}),
    piece({"text": "Grüße, "}, usage={"candidatesTokenCount": 50}),
    piece({"text": "漢字\u2028\u2029\x85🙂"}, usage={"candidatesTokenCount": 100}),
    piece({"text": ""}, finish="STOP", usage=LAST, safetyRatings=RATINGS),
]
CALLS = [
    piece({"text": "Wait."}),
    piece(
        {"functionCall": {"id": "f1", "name": "look", "args": {"q": "x"}}, "thoughtSignature": "c2"}
    ),
    piece({"functionCall": {"name": "now"}}),
    piece({"text": ""}, finish="STOP", usage=LAST),
]


def events(*documents: Any, ending: str = "\r\n") -> bytes:
    blocks = [f"data: {orjson.dumps(d).decode()}{ending}{ending}" for d in documents]
    return "".join(blocks).encode()


def array(*documents: Any, indent: bool = False) -> bytes:
    if indent:
        return orjson.dumps(documents, option=orjson.OPT_INDENT_2)
    return b"[" + b"\n,\r\n".join(map(orjson.dumps, documents)) + b"]\n"


def bare(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).replace(b"\n", b"\r\n") + b"\r\n"


def streamed(*documents: Any) -> list[Frame]:
    return whole(stream_reader(), events(*documents))


# What is asked


def test_the_simplest_question() -> None:
    request = WIRE.request(gemini("hello"), stream=True)

    assert request.path == f"/v1/models/{FLASH}:streamGenerateContent?alt=sse"
    assert request.headers == {}
    assert request.body == {
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"maxOutputTokens": 1000},
        "safetySettings": SAFETY,
    }
    whole_request = WIRE.request(gemini("hello"), stream=False)
    assert whole_request.path == f"/v1/models/{FLASH}:generateContent"
    assert whole_request.body == request.body


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-4-argon", "/v1/models/gemini-4-argon:generateContent"),
        ("gemini-flash-latest", "/v1beta/models/gemini-flash-latest:generateContent"),
    ],
)
def test_where_a_model_is_found(model: str, path: str) -> None:
    assert WIRE.request(gemini(model=model), stream=False).path == path


@pytest.mark.parametrize("model", ["a/b", "../a", "a..b", "a?b", "a%2f", "a:b", ".a", "ä", "a\n"])
def test_a_name_that_is_no_models_is_not_asked_for(model: str) -> None:
    with pytest.raises(ModelUnavailable):
        WIRE.request(gemini(model=model), stream=False)


def test_the_system_speaks_apart_and_sides_take_turns() -> None:
    body = asked(
        Said(Role.SYSTEM, "Be kind."),
        "one",
        Said(Role.ASSISTANT, ""),
        "two",
        Said(Role.ASSISTANT, "three"),
        system_prompt="Be brief.",
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief.\n\nBe kind."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "one"}, {"text": "two"}]},
        {"role": "model", "parts": [{"text": "three"}]},
        # The last turn must not be the model's.
        {"role": "user", "parts": [{"text": "Continue."}]},
    ]


def test_tools_and_what_came_of_them() -> None:
    calls = [
        ToolCall("f1", "look", '{"q":"x"}', signature="c2ln"),
        ToolCall("f2", "now", "", signature=None),
    ]
    results = [ToolResult("f1", "42"), ToolResult("f2", "no clock", failed=True)]
    body = asked(
        "what?",
        Said(Role.ASSISTANT, "Wait.", tool_calls=calls, thoughts=[Thought("anthropic", {})]),
        Said(Role.TOOL, "", tool_results=[*results, ToolResult("f3", "x", name="gone")]),
        "and?",
        tools=[TOOL, Tool("now")],
    )
    assert body["contents"][1]["parts"] == [
        {"text": "Wait."},
        {
            "functionCall": {"id": "f1", "name": "look", "args": {"q": "x"}},
            "thoughtSignature": "c2ln",
        },
        {"functionCall": {"id": "f2", "name": "now", "args": {}}},
    ]
    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"id": "f1", "name": "look", "response": {"output": "42"}}},
        {"functionResponse": {"id": "f2", "name": "now", "response": {"error": "no clock"}}},
        {"functionResponse": {"id": "f3", "name": "gone", "response": {"output": "x"}}},
        {"text": "and?"},
    ]
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "look",
                    "description": "Looks it up.",
                    "parametersJsonSchema": PARAMETERS,
                },
                {"name": "now"},
            ]
        }
    ]
    assert "toolConfig" not in body


def test_a_call_that_another_vendor_made_is_vouched_for() -> None:
    calls = [ToolCall("call_1", "look", "{}"), ToolCall("call_2", "look", "{}")]
    body = asked("a", Said(Role.ASSISTANT, "", tool_calls=calls), "b")

    signatures = [part.get("thoughtSignature") for part in body["contents"][1]["parts"]]
    assert signatures == ["skip_thought_signature_validator", None]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("named", "look"), {"mode": "ANY", "allowedFunctionNames": ["look"]}),
    ],
)
def test_the_choice_of_tools(choice: ToolChoice, expected: dict[str, Any]) -> None:
    body = asked(tools=[TOOL], tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": expected}
    assert "toolConfig" not in asked(tool_choice=choice)


def test_images_by_their_bytes_and_by_url() -> None:
    parts: list[ContentPart] = [
        TextPart("What is this?"),
        ImagePart("image/png", b"\x89PNG"),
        ImagePart(url="https://images.invalid/a.jpg?size=1"),
        ImagePart("image/webp", url="https://images.invalid/b"),
        ImagePart(url="https://images.invalid/c"),
        TextPart(""),
    ]
    body = asked(Said(Role.USER, "What is this?", parts=parts))

    jpeg = {"fileUri": "https://images.invalid/a.jpg?size=1", "mimeType": "image/jpeg"}
    assert body["contents"][0]["parts"] == [
        {"text": "What is this?"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
        {"fileData": jpeg},
        {"fileData": {"fileUri": "https://images.invalid/b", "mimeType": "image/webp"}},
        {"fileData": {"fileUri": "https://images.invalid/c"}},
    ]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (FLASH, {}),
        (ARGON, {}),
        ("gemini-unheard-of", {}),
        ("gemini-3.5-flash-lite", {}),
        ("gemini-3.1-flash-lite", {"temperature": 0.0, "topP": 0.5}),
        ("gemini-2.5-pro", {"temperature": 0.0, "topP": 0.5}),
    ],
)
def test_sampling_only_where_it_is_taken(model: str, expected: dict[str, Any]) -> None:
    sent = config(model=model, temperature=0.0, top_p=0.5)
    assert {name: sent[name] for name in ("temperature", "topP") if name in sent} == expected
    assert config(model=model) == {"maxOutputTokens": 1000}


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (FLASH, "none", {"thinkingLevel": "LOW"}),
        (FLASH, "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        (FLASH, "max", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (ARGON, "max", {"thinkingLevel": "XHIGH", "includeThoughts": True}),
        ("gemini-3.6-flash", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-2.5-pro", "high", None),
    ],
)
def test_effort_by_model(model: str, effort: Any, expected: dict[str, Any] | None) -> None:
    assert config(model=model, effort=effort).get("thinkingConfig") == expected


def test_json_and_stop_sequences() -> None:
    sent = config(answer_format=AnswerFormat(PARAMETERS), stop=["A", "B", "C", "D", "E"])
    assert sent["responseMimeType"] == "application/json"
    assert sent["responseJsonSchema"] == PARAMETERS
    assert sent["stopSequences"] == ["A", "B", "C", "D", "E"]
    assert "responseJsonSchema" not in config(answer_format=AnswerFormat())
    with pytest.raises(VendorRejectedRequest):
        config(stop=["A", "B", "C", "D", "E", "F"])


# What is answered


def test_a_text_with_thoughts() -> None:
    assert streamed(*ANSWER) == [
        Began("r1", FLASH),
        Thinking("Let me see."),
        Text("Grüße, "),
        Text("漢字\u2028\u2029\x85🙂"),
        Ended(
            "stop",
            Usage(
                input_tokens=1207,
                cache_read_tokens=1000,
                output_tokens=350,
                output_reasoning_tokens=200,
            ),
            ratings=RATED,
        ),
    ]


def test_calls_come_whole_and_end_the_answer() -> None:
    frames = streamed(*CALLS)

    assert frames[1:-1] == [
        Text("Wait."),
        ToolCallPiece(0, "f1", "look", '{"q":"x"}', signature="c2"),
        ToolCallPiece(1, "call_r1_1", "now", "{}"),
    ]
    assert the_end(frames).reason == "tool_calls"


def test_a_call_without_any_id_gets_one_of_its_own() -> None:
    call = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "now"}}]}}]}
    ids = {frame.id for _ in range(2) for frame in streamed_calls(call)}
    assert len(ids) == 2


def streamed_calls(*documents: Any) -> list[ToolCallPiece]:
    frames, _ = read(stream_reader(), [events(*documents)])
    return [frame for frame in frames if isinstance(frame, ToolCallPiece)]


FORMS = [
    events(*ANSWER),
    events(*CALLS, ending="\n"),
    events(*ANSWER, ending="\r"),
    events(*ANSWER)[:-4],
    array(*ANSWER),
    array(*CALLS, indent=True),
    orjson.dumps(ANSWER[-1]),
    events(*ANSWER[:2]),
    events(*ANSWER[:2]) + bare(REFUSALS["overloaded"].body),
    bare(REFUSALS["overloaded"].body),
    array(*ANSWER[:2])[:-2] + b",\r\n" + bare(REFUSALS["overloaded"].body) + b"]",
]


@settings(deadline=None)
@given(st.sampled_from(FORMS), st.lists(st.integers(0, 9999), max_size=30))
def test_however_the_bytes_are_cut(data: bytes, places: list[int]) -> None:
    frames, failure = read(stream_reader(), cut_at(data, places))
    expected, expected_failure = read(stream_reader(), [data])
    assert frames == expected
    assert type(failure) is type(expected_failure)


@pytest.mark.parametrize("data", FORMS)
def test_byte_by_byte(data: bytes) -> None:
    frames, failure = read(stream_reader(), [data[at : at + 1] for at in range(len(data))])
    expected, expected_failure = read(stream_reader(), [data])
    assert frames == expected
    assert type(failure) is type(expected_failure)


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
def test_every_end_of_line_means_the_same(ending: str) -> None:
    assert whole(stream_reader(), events(*ANSWER, ending=ending)) == streamed(*ANSWER)


@pytest.mark.parametrize("indent", [False, True])
def test_without_sse_a_stream_is_one_array(indent: bool) -> None:
    assert whole(stream_reader(), array(*ANSWER, indent=indent)) == streamed(*ANSWER)
    assert whole(stream_reader(), array(*CALLS, indent=indent)) == streamed(*CALLS)


json_text = st.text(st.sampled_from('"\\{}[],:a é\u2028'), max_size=12)


@settings(deadline=None)
@given(st.lists(json_text, max_size=5), st.booleans(), st.lists(st.integers(0, 999), max_size=9))
def test_braces_and_quotes_in_a_text_end_nothing(
    texts: list[str], indent: bool, places: list[int]
) -> None:
    documents = [piece({"text": text}) for text in texts] + [piece({"text": "!"}, finish="STOP")]
    frames, failure = read(stream_reader(), cut_at(array(*documents, indent=indent), places))
    assert failure is None
    assert told(frames)[0] == "".join(texts) + "!"


@pytest.mark.parametrize(
    ("word", "reason", "why"),
    [
        ("STOP", "stop", None),
        ("MAX_TOKENS", "length", None),
        ("SAFETY", "content_filter", "SAFETY"),
        ("RECITATION", "content_filter", "RECITATION"),
        ("PROHIBITED_CONTENT", "content_filter", "PROHIBITED_CONTENT"),
        ("BLOCKLIST", "content_filter", "BLOCKLIST"),
        ("SPII", "content_filter", "SPII"),
        ("IMAGE_SAFETY", "content_filter", "IMAGE_SAFETY"),
        ("LANGUAGE", "other", "LANGUAGE"),
        ("OTHER", "other", "OTHER"),
        ("MALFORMED_FUNCTION_CALL", "other", "MALFORMED_FUNCTION_CALL"),
        ("UNEXPECTED_TOOL_CALL", "other", "UNEXPECTED_TOOL_CALL"),
        ("MISSING_THOUGHT_SIGNATURE", "other", "MISSING_THOUGHT_SIGNATURE"),
        ("MALFORMED_RESPONSE", "other", "MALFORMED_RESPONSE"),
        ("SOMETHING_NEW", "other", "SOMETHING_NEW"),
    ],
)
def test_why_it_ended(word: str, reason: str, why: str | None) -> None:
    ended = the_end(streamed(piece(finish=word, safetyRatings=RATINGS)))
    assert (ended.reason, ended.why, ended.ratings) == (reason, why, RATED)


def test_a_cap_that_cuts_after_a_call_is_still_a_cap() -> None:
    assert the_end(streamed(*CALLS[:3], piece(finish="MAX_TOKENS"))).reason == "length"
    assert the_end(streamed(*CALLS[:3], piece(finish="SAFETY"))).reason == "content_filter"


def test_a_blocked_prompt_has_no_candidates() -> None:
    blocked = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": RATINGS},
        "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12},
        "modelVersion": FLASH,
        "responseId": "r1",
    }
    expected = [
        Began("r1", FLASH),
        Ended("content_filter", Usage(input_tokens=12), ratings=RATED, why="PROHIBITED_CONTENT"),
    ]
    assert streamed(blocked) == expected
    assert whole(whole_reader(), orjson.dumps(blocked)) == expected


def test_a_pause_is_continued_with_its_token() -> None:
    request = WIRE.request(gemini("hello"), stream=True)
    reader = request.reader()
    paused = piece({"text": "One. "}, finish="CONTINUATION", usage=LAST, continuationToken="dG9r")
    ended = the_end(whole(reader, events(*CALLS[:2], paused)))
    assert (ended.reason, ended.continuation, ended.why) == ("paused", "dG9r", None)

    following = WIRE.continued(request, ended)
    assert following is not None
    assert following.body == {**request.body, "continuationToken": "dG9r"}
    # What was called before the pause counts: the number of a call, and how the answer ends.
    frames = whole(following.reader(), events(*CALLS))
    pieces = [frame for frame in frames if isinstance(frame, ToolCallPiece)]
    assert [piece.index for piece in pieces] == [1, 2]
    again = WIRE.continued(following, Ended("paused", None, continuation="bmV3"))
    assert again is not None
    assert whole(again.reader(), events(ANSWER[-1]))[-1].reason == "tool_calls"  # type: ignore[union-attr]
    assert again.body["continuationToken"] == "bmV3"
    assert WIRE.continued(again, Ended("paused", None)) is None


def test_a_text_holds_nothing_that_cannot_be_stored() -> None:
    assert told(streamed(piece({"text": "a\0b"}, finish="STOP")))[0] == "a\ufffdb"


def test_other_candidates_are_no_part_of_the_answer() -> None:
    second = piece({"text": "another"})
    second["candidates"][0]["index"] = 1
    assert streamed(second, *ANSWER) == streamed(*ANSWER)


def test_without_a_count_there_is_no_usage() -> None:
    assert the_end(streamed({"candidates": [{"finishReason": "STOP"}]})).usage is None


@pytest.mark.parametrize("documents", [[], ANSWER[:1], ANSWER[:3]])
def test_an_answer_without_a_finish_reason_was_cut(documents: list[Any]) -> None:
    for data in (events(*documents), array(*documents)[:-2], array(*documents)):
        _, failure = read(stream_reader(), [data])
        assert isinstance(failure, VendorFailed)
        assert failure.billed


@pytest.mark.parametrize("form", [events, array, bare])
@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("overloaded", VendorOverloaded),
        ("rate_limit", VendorRateLimited),
        ("server_error", VendorOverloaded),
        ("bad_request", VendorRejectedRequest),
        ("invalid_key", NoUsableKey),
        ("quota", VendorQuotaExhausted),
    ],
)
def test_an_error_in_a_stream_is_free_only_before_anything_was_said(
    form: Any, kind: str, failure: type[Exception]
) -> None:
    error = REFUSALS[kind].body
    _, raised = read(stream_reader(), [form(error)])
    assert type(raised) is failure

    before = array(*ANSWER[:2])[:-2] + b",\n" if form is array else events(*ANSWER[:2])
    frames, raised = read(stream_reader(), [before + form(error)])
    assert told(frames) == ("Grüße, ", "Let me see.", [])
    assert type(raised) is VendorFailed
    assert raised.billed


def test_an_error_within_a_stream_knows_its_wait() -> None:
    _, raised = read(stream_reader(), [bare(REFUSALS["rate_limit"].body)])
    assert isinstance(raised, VendorRefused)
    assert raised.retry_after == timedelta(seconds=31)


@pytest.mark.parametrize("start", [b"data: ", b'[{"a":"'])
def test_a_document_too_large_to_be_one(start: bytes) -> None:
    _, failure = read(stream_reader(), [start, b"\n", start, *[b"x" * (1 << 20)] * 9])
    assert isinstance(failure, VendorFailed)


def test_a_whole_answer_says_what_a_stream_does() -> None:
    parts = [part for d in CALLS for part in d["candidates"][0]["content"]["parts"]]
    data = orjson.dumps(piece(*parts, finish="STOP", usage=LAST))

    assert whole(whole_reader(), data) == streamed(*CALLS)
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert read(whole_reader(), pieces) == (streamed(*CALLS), None)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_a_clients_own_call_is_read_alike(version: str) -> None:
    stream = f"/{version}/models/{FLASH}:streamGenerateContent"
    for path in (stream, stream + "?alt=sse"):
        assert whole(WIRE.raw_reader(path, streamed=True), events(*CALLS)) == streamed(*CALLS)
        assert whole(WIRE.raw_reader(path, streamed=True), array(*CALLS)) == streamed(*CALLS)
    path = f"/{version}/models/{FLASH}:generateContent"
    raw = whole(WIRE.raw_reader(path, streamed=False), orjson.dumps(ANSWER[-1]))
    assert raw == streamed(ANSWER[-1])


# What is refused


@pytest.mark.parametrize(
    ("kind", "failure", "reason", "wait"),
    [
        ("no_key", NoUsableKey, "key_restricted", None),
        ("invalid_key", NoUsableKey, "key_rejected", None),
        ("unauthenticated", NoUsableKey, "key_rejected", None),
        ("missing_scope", NoUsableKey, "key_restricted", None),
        ("permission", NoUsableKey, "key_restricted", None),
        ("leaked_key", NoUsableKey, "key_restricted", None),
        ("consumer_suspended", NoUsableKey, "key_restricted", None),
        ("service_disabled", NoUsableKey, "key_restricted", None),
        ("region", NoUsableKey, "key_restricted", None),
        ("bad_request", VendorRejectedRequest, None, None),
        ("context_length", PromptTooLong, None, None),
        ("quota", VendorQuotaExhausted, None, None),
        ("model_not_found", ModelUnavailable, None, None),
        ("conflict", VendorOverloaded, None, None),
        ("too_large", VendorRejectedRequest, None, None),
        ("rate_limit", VendorRateLimited, None, 31.0),
        ("rate_limit_fractional", VendorRateLimited, None, 1.2),
        ("rate_limit_per_day", VendorQuotaExhausted, None, None),
        ("cancelled", VendorRejectedRequest, None, None),
        ("server_error", VendorOverloaded, None, None),
        ("bad_gateway", VendorOverloaded, None, None),
        ("overloaded", VendorOverloaded, None, None),
        ("unavailable", VendorOverloaded, None, None),
        ("gateway_timeout", VendorOverloaded, None, None),
    ],
)
def test_every_refusal_has_its_meaning(
    kind: str, failure: type[Exception], reason: str | None, wait: float | None
) -> None:
    vendors = REFUSALS[kind]
    raised: Any = WIRE.refusal(vendors.status, vendors.body, {})

    assert type(raised) is failure
    assert isinstance(raised, ExpectedFailure)
    assert raised.facts.get("reason") == reason
    if isinstance(raised, VendorRefused):
        assert raised.retry_after == (None if wait is None else timedelta(seconds=wait))
    assert vendors.body["error"]["message"] not in raised.message


def test_every_refusal_of_the_simulator_is_in_the_table_above() -> None:
    (mark,) = [
        mark
        for mark in test_every_refusal_has_its_meaning.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    ]
    assert {row[0] for row in mark.args[1]} == set(REFUSALS)


def test_a_days_quota_does_not_come_by_waiting() -> None:
    vendors = REFUSALS["rate_limit_per_day"]
    raised = WIRE.refusal(vendors.status, vendors.body, {"retry-after": "31"})
    assert isinstance(raised, VendorQuotaExhausted)
    assert (raised.retry_after, raised.again) == (None, False)


# What it costs


def test_the_worked_examples_cost_what_they_should() -> None:
    counts = {"candidatesTokenCount": 150, "thoughtsTokenCount": 200}
    usage = the_end(streamed(piece({"text": "Hi"}, finish="STOP", usage=counts))).usage
    assert usage is not None
    priced = price("gemini", FLASH, usage, datetime(2026, 11, 24, 12, tzinfo=UTC))
    assert priced is not None
    assert priced.cost == 1_538  # 1537.5, half to even

    counts = {"promptTokenCount": 1000, "candidatesTokenCount": 1000, "cachedContentTokenCount": 0}
    usage = the_end(streamed(piece({"text": "Hi"}, finish="STOP", usage=counts))).usage
    assert usage is not None
    for at, cost in ((datetime(2026, 11, 24), 12_000), (datetime(2026, 12, 2), 24_000)):
        priced = price("gemini", ARGON, usage, at.replace(tzinfo=UTC))
        assert priced is not None
        assert priced.cost == cost
