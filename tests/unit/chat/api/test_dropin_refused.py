"""What is not offered in a client's own body: tools, fields, files and forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from services.chat.api import dropin_anthropic_calls as anthropic
from services.chat.api import dropin_anthropic_errors
from services.chat.api import dropin_gemini_calls as gemini
from services.chat.api import dropin_openai_calls as openai
from services.chat.api.dropin_call import VendorCall
from services.chat.api.dropin_errors import told
from services.chat.domain.errors import (
    ThreadNotOffered,
    ToolNotOffered,
    UnsupportedParameter,
)
from shared.errors import Invalid
from shared.vendors.dropins import BadParameter, UnreadableBody
from tests.support.dropin_calls import (
    FILES,
    a_namespace,
    added,
    added_before,
    chat,
    content,
    file_part,
    held_by,
    message,
    response,
    sent,
)

HOUR = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: chat(n=2),
        lambda: chat(stream="yes"),
        lambda: chat(stream_options=[]),
        lambda: chat(modalities=["text", "audio"]),
        lambda: chat(audio={"voice": "x"}),
        lambda: chat(web_search_options={}),
        lambda: chat(model=""),
        lambda: chat(model=7),
        lambda: chat(model=None),
        lambda: chat(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]),
        lambda: chat(
            messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]
        ),
        lambda: response(background=True),
        lambda: response(previous_response_id="resp_1"),
        lambda: response(conversation="conv_1"),
        lambda: response(prompt={"id": "pmpt_1"}),
        lambda: response(input=[{"type": "item_reference", "id": "x"}]),
        lambda: chat(prompt_cache_options={"ttl": "12h"}),
        lambda: response(prompt_cache_options={"mode": "explicit", "ttl": "12h"}),
        lambda: response(prompt_cache_options={"ttl": "7d"}),
        lambda: response(
            input=[
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "input_text",
                            "text": "Long.",
                            "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
                        }
                    ],
                }
            ]
        ),
        lambda: openai.read_response(
            b'{"model":"gpt-4","input":"a","prompt_cache_options":{"tt\\u006c":"12h"}}'
        ),
        lambda: response(
            input=[{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]
        ),
        lambda: response(
            input=[
                {
                    "type": "computer_call_output",
                    "output": {"type": "computer_screenshot", "file_id": "f"},
                }
            ]
        ),
        lambda: message(messages=[{"role": "user", "content": [held_by({"type": "file"})]}]),
        lambda: content(systemInstruction=file_part("https://youtu.be/a", "video/mp4")),
        lambda: content(
            system_instruction={"parts": {"inlineData": {"mimeType": "audio/mp3", "data": "AA"}}}
        ),
        lambda: message(mcp_servers=[{"url": "https://a.example"}]),
        lambda: message(container="c"),
        lambda: message(inference_geo="us"),
        lambda: message(inference_geo=["global"]),
        lambda: message(fallbacks=[{"model": "claude-fable-5-2"}]),
        lambda: message(thinking="much"),
        lambda: message(
            messages=[{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]
        ),
        lambda: message({"anthropic-version": "1999-01-01"}),
        lambda: message(cache_control=HOUR),
        lambda: message(system=[{"type": "text", "text": "Be brief.", "cache_control": HOUR}]),
        lambda: message(tools=[{"name": "f", "input_schema": {}, "cache_control": HOUR}]),
        lambda: anthropic.read_message(
            b'{"model":"claude","messages":[],"cache_control":{"ttl":"\\u0031h"}}', {}
        ),
        lambda: content(serviceTier="flex"),
        lambda: content(service_tier="PRIORITY"),
        lambda: content(serviceTier=["standard"]),
        lambda: content(cachedContent="cachedContents/1"),
        lambda: content(cached_content="cachedContents/1"),
        lambda: content(generationConfig={"candidateCount": 2}),
        lambda: content(generation_config={"candidate_count": 3}),
        lambda: content(generationConfig={}, generation_config={}),
        lambda: content(generationConfig={"maxOutputTokens": 1, "max_output_tokens": 2}),
        lambda: content(generationConfig={"responseModalities": ["TEXT", "IMAGE"]}),
        lambda: content(generationConfig=[1]),
        lambda: content(contents=[file_part("x")]),
        lambda: content(contents=[{"parts": [{"fileData": "https://pictures.test/a.png"}]}]),
        lambda: content(contents=[file_part("http://pictures.test/a.png")]),
        lambda: content(contents=[file_part("gs://pictures/a.png")]),
        lambda: content(contents=[file_part("https://[/a.png")]),
        lambda: content(contents=[file_part(f"{FILES}/a")]),
        lambda: content(contents=[file_part(f"{FILES.upper()}/a")]),
        lambda: content(contents=[file_part("https://www.youtube.com/watch?v=a")]),
        lambda: content(contents=[file_part("https://youtube.com\\@pictures.test/a.png")]),
        lambda: content(contents=[file_part("https://%79outube.com/watch?v=a")]),
        lambda: content(contents=[file_part("https://\uff59outube.com/watch?v=a")]),
        lambda: content(contents=[file_part("https://youtube\u3002com/watch?v=a")]),
        lambda: content(contents=[file_part("https://" + "a" * 64 + ".test/a.png")]),
        lambda: content(contents=[file_part("https://films.test/a.mp4", "video/mp4")]),
        lambda: content(contents=[file_part("https://pictures.test/a.png", None)]),
        lambda: content(contents=[{"parts": [{"inlineData": {"mimeType": "audio/wav"}}]}]),
    ],
)
def test_what_is_not_offered_is_refused(make: Any) -> None:
    with pytest.raises(Invalid) as refused:
        make()
    assert isinstance(refused.value, BadParameter | UnsupportedParameter | ToolNotOffered)
    assert refused.value.facts["param"]


@pytest.mark.parametrize(
    "uri",
    [
        "https://pictures.test:8443/a%20b.png?c=\\d",
        "https://b\u00fccher.test/a.png",
        "https://a_b.pictures.test./a",
    ],
)
def test_a_file_may_lie_anywhere_else(uri: str) -> None:
    part = sent(content(contents=[file_part(uri)]))["contents"][0]["parts"][0]
    assert part["file_data"]["file_uri"] == uri


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "text/plain"])
def test_a_file_that_gemini_fetches_counts_like_one_in_the_body(kind: str) -> None:
    call = content(contents=[file_part("https://pictures.test/a", kind)])
    assert call.features == {"multimodal"}
    assert call.input_estimate > content().input_estimate
    camel = {"fileData": {"fileUri": "https://pictures.test/a", "mimeType": kind}}
    assert content(contents=[{"parts": [camel]}]).features == {"multimodal"}
    assert sent(call)["contents"][0]["parts"][0]["file_data"]["mime_type"] == kind


def test_a_thread_is_refused_in_the_word_at_which_anthropics_sdk_goes_on_without() -> None:
    for read in (anthropic.read_message, anthropic.read_count):
        body = {"model": "claude", "messages": [], "thread": {"type": "create"}}
        with pytest.raises(ThreadNotOffered) as refused:
            read(json.dumps(body).encode(), {})
        said = dropin_anthropic_errors.document(told(refused.value))
        assert said["error"]["details"]["error_code"] == "thread_unsupported_request"
    assert message(thread=None).model == "claude"


@pytest.mark.parametrize(
    "make",
    [
        lambda: chat(tools=[{"type": "web_search"}]),
        lambda: response(tools=[{"type": "function", "name": "f"}, {"type": "web_search"}]),
        lambda: response(tools=[{"type": "code_interpreter"}]),
        lambda: response(tools=[{"type": "mcp"}]),
        lambda: response(tools=[{"type": "shell"}]),
        lambda: response(tools=[{"type": "shell", "environment": {"type": "container_auto"}}]),
        lambda: response(tools=[{"type": "tool_search"}]),
        lambda: response(tools=[{"type": "tool_search", "execution": "server"}]),
        lambda: response(tools=[a_namespace({"type": "web_search"})]),
        lambda: response(tools=[a_namespace(a_namespace({"type": "function", "name": "f"}))]),
        lambda: response(
            input=[{"type": "tool_search_output", "tools": [a_namespace({"type": "mcp"})]}]
        ),
        lambda: message(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        lambda: message(tools=[{"type": "code_execution_20250825", "name": "x"}]),
        lambda: content(tools=[{"googleSearch": {}}]),
        lambda: content(tools=[{"functionDeclarations": [], "code_execution": {}}]),
        lambda: response(input=[{"type": "additional_tools", "tools": [{"type": "web_search"}]}]),
        lambda: response(
            input=["x", {"type": "tool_search_output", "tools": [{"type": "code_interpreter"}]}]
        ),
        lambda: message(messages=[added({"type": "web_search_20250305", "name": "web_search"})]),
        lambda: message(messages=[added_before({"type": "web_fetch_20250910", "name": "x"})]),
    ],
)
def test_tools_that_run_at_the_vendor_are_refused(make: Any) -> None:
    with pytest.raises(ToolNotOffered):
        make()


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "computer"},
        {"type": "computer_use_preview", "environment": "browser"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "tool_search", "execution": "client", "parameters": {}},
        a_namespace({"type": "function", "name": "f"}, {"type": "custom", "name": "g"}),
        {"type": "local_shell"},
        {"type": "apply_patch"},
    ],
)
def test_openais_tools_that_run_at_the_client_are_offered(tool: Any) -> None:
    call = response(tools=[tool])
    assert sent(call)["tools"] == [tool]
    assert call.features == {"function_calling"}


def test_anthropics_tools_that_run_at_the_client_are_offered() -> None:
    kinds = ("bash_20250124", "computer_toolset_20260801", "browser_toolset_20260801")
    tools = [{"type": kind} for kind in kinds]
    assert message(tools=tools).features == {"function_calling"}


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ({"type": "web_search"}, "tools[0] is a tool that runs at the vendor; "),
        ({"type": "shell"}, "unless its environment is of the type local; "),
        ({"type": "tool_search"}, "unless its execution is client; "),
        (a_namespace({"type": "mcp"}), "tools[0].tools[0] is a tool that runs at the vendor; "),
    ],
)
def test_what_is_refused_is_told_why(tool: Any, says: str) -> None:
    with pytest.raises(ToolNotOffered) as refused:
        response(tools=[tool])
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"a":' * 3_000, b'{"a":"\\ud800"}', b'{"a":1e999}']
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    for read in (openai.read_chat, openai.read_response):
        with pytest.raises(UnreadableBody):
            read(body)
    with pytest.raises(UnreadableBody):
        anthropic.read_message(body, {})
    with pytest.raises(UnreadableBody):
        gemini.read_content("v1", "m", body)


@pytest.mark.parametrize("field", ["from_the_future", "tools", "messages", "contents", "input"])
def test_what_is_nested_too_deeply_to_be_written_is_refused(field: str) -> None:
    deep: Any = {}
    for _ in range(300 if field == "tools" else 150):
        deep = {"a": [deep]} if field != "tools" else {"type": "function", "a": deep}
    makes: tuple[Callable[..., VendorCall], ...] = (chat, response, message, content)
    for make in makes:
        with pytest.raises(Invalid):
            sent(make(**{field: [deep]}))


@pytest.mark.parametrize(
    "odd", [[], "x", 7, {"a": 1}, [1, "a", None, []], [[{}]], [{"type": []}], [{"type": {}}]]
)
def test_odd_shapes_are_left_for_the_vendor_to_refuse(odd: Any) -> None:
    for call in (
        chat(messages=odd),
        chat(messages=[{"role": "user", "content": odd}]),
        response(input=odd),
        response(input=[{"content": odd, "output": odd}]),
        message(messages=odd, system=odd),
        message(messages=[{"content": odd}]),
        content(contents=odd),
        content(contents=[{"parts": odd}]),
        content(safetySettings=[{"category": odd}]),
    ):
        assert sent(call)
