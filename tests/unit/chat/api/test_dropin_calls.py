"""What is governed in a client's own body, and that everything else is left alone."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from services.chat.api import dropin_anthropic_calls as anthropic
from services.chat.api import dropin_anthropic_errors
from services.chat.api import dropin_gemini_calls as gemini
from services.chat.api import dropin_openai_calls as openai
from services.chat.api.dropin_call import VendorCall
from services.chat.api.dropin_errors import told
from services.chat.domain.errors import (
    ItemNotKept,
    ThreadNotOffered,
    ToolNotOffered,
    UnsupportedParameter,
)
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.relayed import StoredAnswer
from services.chat.domain.relaying import governed_choice
from shared.errors import Invalid
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from shared.vendors.dropins import BadParameter, UnreadableBody

CHOICE = ModelChoice("openai", "the-model", 1_000)
USER = "opaque-id"
HOUR = {"type": "ephemeral", "ttl": "1h"}
PNG = "data:image/png;base64," + "A" * 40_000


def sent(call: VendorCall, choice: ModelChoice = CHOICE) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(call.governed(choice, end_user=USER).body)
    return body


def chat(**fields: Any) -> VendorCall:
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "hello"}], **fields}
    return openai.read_chat(json.dumps(body).encode())


def response(**fields: Any) -> VendorCall:
    return openai.read_response(json.dumps({"model": "gpt-4", "input": "hello", **fields}).encode())


def message(headers: dict[str, str] | None = None, **fields: Any) -> VendorCall:
    body = {"model": "claude", "messages": [{"role": "user", "content": "hello"}], **fields}
    return anthropic.read_message(json.dumps(body).encode(), headers or {})


def content(**fields: Any) -> VendorCall:
    body = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}], **fields}
    return gemini.read_content("v1", "gemini-pro", json.dumps(body).encode())


FILES = "https://generativelanguage.googleapis.com/v1beta/files"


def file_part(uri: str, kind: str | None = "image/png") -> dict[str, Any]:
    """A message of Gemini's with a file that it fetches."""
    return {"role": "user", "parts": [{"file_data": {"file_uri": uri, "mime_type": kind}}]}


def added(definition: Any) -> dict[str, Any]:
    """A message of Anthropic's that adds a tool to the conversation."""
    tool = {"type": "tool_definition", "definition": definition}
    return {"role": "system", "content": [{"type": "tool_addition", "tool": tool}]}


def a_namespace(*tools: Any) -> dict[str, Any]:
    """A group of tools of OpenAI's."""
    return {"type": "namespace", "name": "crm", "description": "", "tools": list(tools)}


def added_before(definition: Any) -> dict[str, Any]:
    """The same in a part of the conversation that was summed up."""
    changes = added(definition)["content"]
    summary = {"type": "compaction", "content": "So far.", "tool_changes": changes}
    return {"role": "assistant", "content": [summary]}


def test_a_field_that_nobody_knows_here_is_passed_on() -> None:
    odd: Any = {"from_the_future": {"a": [1, 2.5, None, "naïve 🙂"]}}
    assert sent(chat(**odd))["from_the_future"] == odd["from_the_future"]
    assert sent(response(**odd))["from_the_future"] == odd["from_the_future"]
    assert sent(message(**odd))["from_the_future"] == odd["from_the_future"]
    assert sent(content(**odd))["from_the_future"] == odd["from_the_future"]


def test_the_model_and_the_user_are_ours() -> None:
    body = sent(chat(user="ada@example.com", safety_identifier="ada"))
    assert (body["model"], body["safety_identifier"]) == ("the-model", USER)
    assert "user" not in body
    body = sent(message(metadata={"user_id": "ada", "more": 1}))
    assert (body["model"], body["metadata"]) == ("the-model", {"user_id": USER})
    body = sent(content(model="models/another"))
    assert "model" not in body


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, None),
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 9_000}, 9_000),
        ({"max_completion_tokens": 70, "max_tokens": 60}, 60),
        ({"max_completion_tokens": None}, None),
    ],
)
def test_chats_cap_has_one_name_and_is_always_set(fields: dict[str, Any], wish: int | None) -> None:
    call = chat(**fields)
    assert call.max_output_tokens == wish
    body = sent(call)
    assert body["max_completion_tokens"] == CHOICE.max_output_tokens
    assert "max_tokens" not in body


def test_every_interface_has_its_cap() -> None:
    assert sent(response())["max_output_tokens"] == 1_000
    assert response(max_output_tokens=5).max_output_tokens == 5
    assert sent(message())["max_tokens"] == 1_000
    assert message(max_tokens=5).max_output_tokens == 5
    config = sent(content(generation_config={"max_output_tokens": 5, "topK": 3}))
    assert config["generationConfig"] == {"topK": 3, "maxOutputTokens": 1_000}
    assert "generation_config" not in config
    assert content(generationConfig={"max_output_tokens": 5}).max_output_tokens == 5


@pytest.mark.parametrize("cap", [0, -1, True, "100", 1.5, [1], 10**30])
def test_a_cap_that_is_none_is_refused(cap: Any) -> None:
    makes: list[Callable[[], VendorCall]] = [
        lambda: chat(max_completion_tokens=cap),
        lambda: chat(max_tokens=cap),
        lambda: response(max_output_tokens=cap),
        lambda: content(generationConfig={"maxOutputTokens": cap}),
    ]
    if cap != 0 or cap is False:
        makes.append(lambda: message(max_tokens=cap))
    for make in makes:
        with pytest.raises(BadParameter):
            make()


def test_a_thinking_budget_stays_below_a_lowered_cap() -> None:
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    lowered = ModelChoice("anthropic", "m", 4_000)
    assert sent(message(thinking=thinking), lowered)["thinking"]["budget_tokens"] == 2_000
    kept = {"type": "enabled", "budget_tokens": 1_500}
    assert sent(message(thinking=kept), lowered)["thinking"] == kept


def test_nothing_is_kept_at_the_vendor() -> None:
    assert sent(response())["store"] is False
    assert sent(response(store=True))["store"] is False
    assert "store" not in sent(chat(store=True))
    assert sent(content(store=True))["store"] is False


def test_what_was_reasoned_is_asked_for_in_the_only_form_in_which_it_comes_back() -> None:
    encrypted = "reasoning.encrypted_content"
    assert sent(response())["include"] == [encrypted]
    assert sent(response(include=[encrypted]))["include"] == [encrypted]
    logprobs = "message.output_text.logprobs"
    assert sent(response(include=[logprobs]))["include"] == [logprobs, encrypted]
    assert sent(response(include="all"))["include"] == "all"
    assert "include" not in sent(response(), ModelChoice("openai", "gpt-4o-mini", 1_000))


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
    ],
)
def test_who_names_an_item_that_nobody_keeps_is_told_what_helps(item: dict[str, Any]) -> None:
    with pytest.raises(ItemNotKept) as refused:
        response(input=[{"role": "user", "content": "hello"}, item])
    assert refused.value.facts["param"] == "input[1]"
    assert "store: false" in refused.value.message


def test_reasoning_that_comes_whole_is_passed_on() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    assert sent(response(input=[item]))["input"] == [item]


def test_a_failure_in_a_response_has_the_next_number() -> None:
    error = {"error": {"code": "vendor_failed", "message": "It broke.", "param": None}}
    events = response(stream=True).framing()
    shown = b'event: x\ndata: {"type":"x","sequence_number":41,"y":[{"sequence_number":7}]}\n\n'
    assert events.shown(shown) == shown
    assert events.shown(b": nothing\n\n") == b": nothing\n\n"
    name, data = events.failed(error).decode().strip().split("\n")
    assert name == "event: error"
    told_ = json.loads(data.removeprefix("data: "))
    assert (told_["sequence_number"], told_["code"]) == (42, "vendor_failed")
    for odd in (b"", b"data: [1]\n\n", b'data: "sequence_number"\n\n', b'data: {"sequence_number"'):
        first = response(stream=True).framing()
        first.shown(odd)
        assert b'"sequence_number":0' in first.failed(error)


def test_claude_may_only_write_its_cache() -> None:
    call = message(max_tokens=0, model="claude-sonnet-5-5")
    choice = governed_choice(call, TIERS["pro"], ModelCatalogue())
    assert choice.max_output_tokens == 0
    assert sent(call, choice)["max_tokens"] == 0


def test_usage_is_asked_for_in_streams_alone() -> None:
    assert "stream_options" not in sent(chat())
    options = sent(chat(stream=True, stream_options={"include_obfuscation": False}))
    assert options["stream_options"] == {"include_obfuscation": False, "include_usage": True}


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


def test_what_a_tier_has_to_include() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert chat().features == frozenset()
    assert chat(tools=[tool]).features == {"function_calling"}
    assert chat(functions=[{"name": "f"}]).features == {"function_calling"}
    image = {"type": "image_url", "image_url": {"url": PNG}}
    pictured = chat(messages=[{"role": "user", "content": [image]}])
    assert pictured.features == {"multimodal"}
    assert pictured.input_estimate < 2_000  # the bytes of an image are no text
    block = {"type": "image", "source": {"type": "base64", "data": "A" * 40_000}}
    result = {"type": "tool_result", "content": [block]}
    shown = message(messages=[{"role": "user", "content": [result]}])
    assert shown.features == {"multimodal"}
    assert shown.input_estimate < 2_000
    bash = {"type": "bash_20250124", "name": "bash"}
    assert message(tools=[bash, {"name": "f", "input_schema": {}}]).features == {"function_calling"}
    part = {"inline_data": {"mime_type": "image/png", "data": "A" * 40_000}}
    assert content(contents=[{"parts": [part]}]).features == {"multimodal"}
    assert content(tools=[{"function_declarations": [{"name": "f"}]}]).features == {
        "function_calling"
    }


def test_tools_that_come_on_the_way_are_tools() -> None:
    own = {"type": "function", "name": "f"}
    for kind in ("additional_tools", "tool_search_output"):
        assert response(input=[{"type": kind, "tools": [own]}]).features == {"function_calling"}
    assert response(input=[{"type": "message", "content": "hi"}]).features == frozenset()
    for place in (added, added_before):
        mine = place({"name": "f", "input_schema": {}})
        assert message(messages=[mine]).features == {"function_calling"}
    referred = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}
    known = [{"role": "system", "content": [referred]}]
    assert message(messages=known).features == frozenset()


@pytest.mark.parametrize(
    "make",
    [
        lambda: chat(tools=[{"type": ["function"]}]),
        lambda: response(tools=[{"type": {}}]),
        lambda: response(input=[{"type": "additional_tools", "tools": {"type": "web_search"}}]),
        lambda: message(messages=[added("web_search")]),
        lambda: content(tools={"googleSearch": {}}),
        lambda: content(tools={"functionDeclarations": [{"name": "f"}]}),
        lambda: content(tools=[["googleSearch"]]),
    ],
)
def test_tools_of_another_form_are_refused(make: Any) -> None:
    with pytest.raises(BadParameter):
        make()


@pytest.mark.parametrize(
    ("make", "asks"),
    [
        (lambda: message(thinking={"type": "adaptive"}), True),
        (lambda: message(thinking={"type": "enabled", "budget_tokens": 2_000}), True),
        (lambda: message(thinking={"type": "between_tools"}), True),
        (lambda: message(thinking={"type": "disabled"}), False),
        (lambda: message(output_config={"effort": "low"}), True),
        (lambda: message(output_config={"format": {"type": "json_schema"}}), False),
        (lambda: message(messages=[{"role": "system", "output_config": {"effort": "max"}}]), True),
        (lambda: chat(reasoning_effort="high"), True),
        (lambda: chat(reasoning_effort="none"), False),
        (lambda: response(reasoning={"effort": "low"}), True),
        (lambda: response(reasoning={"summary": "auto"}), False),
        (lambda: content(generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}}), True),
        (lambda: content(generation_config={"thinking_config": {"thinking_budget": 9}}), True),
        (lambda: content(generationConfig={"thinkingConfig": {"thinkingBudget": 0}}), False),
        (lambda: content(generationConfig={"thinkingConfig": {"includeThoughts": True}}), False),
    ],
)
def test_who_asks_for_thought_asks_for_advanced_reasoning(make: Any, asks: bool) -> None:
    assert ("advanced_reasoning" in make().features) is asks


def held_by(source: Any, kind: str = "image") -> dict[str, Any]:
    """A document of Anthropic's that holds a block."""
    held = [{"type": "text", "text": "See:"}, {"type": kind, "source": source}]
    return {"type": "document", "source": {"type": "content", "content": held}}


SCREENSHOT = {"type": "computer_screenshot", "image_url": PNG}


@pytest.mark.parametrize(
    "make",
    [
        lambda: response(input=[{"type": "computer_call_output", "output": SCREENSHOT}]),
        lambda: response(input=[{"type": "image_generation_call", "result": "A" * 40_000}]),
        lambda: response(
            input=[{"type": "code_interpreter_call", "outputs": [{"type": "image", "url": PNG}]}]
        ),
        lambda: content(
            systemInstruction={
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "A" * 40_000}}]
            }
        ),
        lambda: content(systemInstruction=file_part("https://pictures.test/a.png")),
        lambda: message(
            messages=[
                {"role": "user", "content": [held_by({"type": "base64", "data": "A" * 40_000})]}
            ]
        ),
        lambda: message(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "web_fetch_tool_result", "content": {"content": held_by({})}}
                    ],
                }
            ]
        ),
    ],
)
def test_an_image_counts_wherever_it_is(make: Any) -> None:
    call = make()
    assert call.features == {"multimodal"}
    assert 1_000 < call.input_estimate < 3_000


def test_blocks_may_hold_each_other_however_deeply() -> None:
    block = b'{"content":' * 990 + b'{"type":"image"}' + b"}" * 990
    body = b'{"model":"claude","messages":[{"role":"user","content":[%b]}]}' % block
    assert anthropic.read_message(body, {}).features == {"multimodal"}


def test_an_image_that_was_not_made_is_none() -> None:
    item = {"type": "image_generation_call", "result": None}
    assert response(input=[item]).features == frozenset()


TEXT = b64encode(b"word " * 30_000).decode()
PAGES = b64encode(b"\n%PDF-1.7\n" + b"\x00" * 150_000).decode()
SHEET = b64encode(b"PK\x03\x04" + b"\x00" * 150_000).decode()
SHEETS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def with_file(door: str, encoded: str, kind: str) -> VendorCall:
    """The file in the wire of each door."""
    url = f"data:{kind};base64,{encoded}" if kind else encoded
    if door == "chat":
        part: dict[str, Any] = {"type": "file", "file": {"file_data": url}}
        return chat(messages=[{"role": "user", "content": [part]}])
    if door == "responses":
        part = {"type": "input_file", "filename": "a", "file_data": url}
        return response(input=[{"role": "user", "content": [part]}])
    if door == "messages":
        source = {"type": "base64", "media_type": kind, "data": encoded}
        part = {"type": "document", "source": source}
        return message(messages=[{"role": "user", "content": [part]}])
    part = {"inlineData": {"mimeType": kind, "data": encoded}}
    return content(contents=[{"parts": [part]}])


DOORS = ("chat", "responses", "messages", "gemini")


@pytest.mark.parametrize("door", DOORS)
def test_text_in_a_file_counts_as_text(door: str) -> None:
    for kind in ("text/plain", "text/csv;charset=utf-8", "application/json", "application/pdf"):
        if door != "gemini" or kind.startswith(("text/", "application/pdf")):
            call = with_file(door, TEXT, kind)
            assert 37_500 <= call.input_estimate < 40_000
            assert call.features == {"multimodal"}


@pytest.mark.parametrize("door", DOORS)
def test_a_file_with_pages_counts_by_them(door: str) -> None:
    assert with_file(door, PAGES, "application/pdf").input_estimate < 6_000
    broken = "\n".join(PAGES[at : at + 76] for at in range(0, len(PAGES), 76))
    assert with_file(door, broken, "application/pdf").input_estimate < 6_000
    url_safe = PAGES.replace("+", "-").replace("/", "_")
    assert with_file(door, url_safe, "application/pdf").input_estimate < 6_000


@pytest.mark.parametrize("door", ("chat", "responses"))
def test_a_file_of_an_untold_type_is_what_it_begins_as(door: str) -> None:
    for kind in ("", "application/octet-stream", SHEETS):
        assert with_file(door, SHEET, kind).input_estimate < 6_000
    assert with_file(door, PAGES, "").input_estimate < 6_000
    assert with_file(door, TEXT, "").input_estimate >= 37_500
    assert with_file(door, PAGES, "text/plain").input_estimate >= 37_500
    assert with_file(door, "\u00e9" * 400, "").input_estimate > 1_000


def test_a_data_url_may_be_plain_text() -> None:
    part = {"type": "input_file", "file_data": "data:text/plain," + "word%20" * 30_000}
    call = response(input=[{"role": "user", "content": [part]}])
    assert call.input_estimate > 50_000


def test_a_tier_of_service_with_its_own_price_is_told() -> None:
    for word in ("priority", "fast", "flex"):
        assert chat(service_tier=word).service_tier == word
        assert response(service_tier=word).service_tier == word
    others: tuple[Any, ...] = ("auto", "default", "standard", "fast/us", "", None, ["fast"], {})
    for other in others:
        assert chat(service_tier=other).service_tier is None
        assert response(service_tier=other).service_tier is None
        assert message(speed=other).service_tier is None
    assert message(speed="fast").service_tier == "fast"
    assert content().service_tier is None


def test_the_prompt_is_estimated_by_its_text() -> None:
    words = "word " * 1_000
    for call in (
        chat(messages=[{"role": "user", "content": words}]),
        response(input=words),
        response(instructions=words),
        message(system=[{"type": "text", "text": words}]),
        content(systemInstruction={"parts": [{"text": words}]}),
        content(system_instruction={"parts": [{"text": words}]}),
        chat(tools=[{"type": "function", "function": {"name": "f", "description": words}}]),
    ):
        assert 1_200 < call.input_estimate < 1_400


def test_gemini_gets_our_safety_settings_where_the_client_set_none() -> None:
    theirs = {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}
    settings = sent(content(safety_settings=[theirs]))["safetySettings"]
    assert settings[0] == theirs
    assert {s["threshold"] for s in settings[1:]} == {"BLOCK_MEDIUM_AND_ABOVE"}
    assert len({s["category"] for s in settings}) == 4


def test_the_path_has_the_governed_model_and_no_query_of_the_clients() -> None:
    call = gemini.read_stream("v1beta", "gemini-pro", b'{"contents":[]}', as_events=False)
    raw = call.governed(CHOICE, end_user=USER)
    assert raw.path == "/v1beta/models/the-model:streamGenerateContent?alt=sse"
    counted = gemini.read_count(
        "v1", "gemini-pro", b'{"generateContentRequest":{"model":"models/x","contents":[]}}'
    )
    assert sent(counted)["generateContentRequest"]["model"] == "models/the-model"


def test_anthropics_headers_are_passed_by_a_list() -> None:
    beta = "interleaved-thinking-2025-05-14, files-api-2025-04-14,unknown-2030-01-01"
    call = message({"anthropic-beta": beta, "anthropic-version": "2023-06-01", "x-api-key": "k"})
    assert call.headers == {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "interleaved-thinking-2025-05-14",
    }
    assert message().headers == {"anthropic-version": "2026-10-21"}


def test_what_is_cached_for_five_minutes_is_passed_on() -> None:
    wished = {"type": "ephemeral", "ttl": "5m"}
    messages = [{"role": "user", "content": [{"type": "text", "text": 'ttl "1h"'}]}]
    call = message(messages=messages, cache_control=wished, system="caf\u00e9")
    assert sent(call)["cache_control"] == wished
    betas = {"anthropic-beta": "extended-cache-ttl-2025-04-11,prompt-caching-2024-07-31"}
    assert message(betas).headers["anthropic-beta"] == "prompt-caching-2024-07-31"


def test_what_is_cached_for_half_an_hour_is_passed_on() -> None:
    wished = {"mode": "explicit", "ttl": "30m"}
    for make in (chat, response):
        assert sent(make(prompt_cache_options=wished))["prompt_cache_options"] == wished
    properties = {"prompt_cache_breakpoint": {"ttl": "12h"}}
    tools = [{"type": "function", "name": "f", "parameters": {"properties": properties}}]
    assert sent(response(tools=tools))["tools"] == tools


def test_claude_may_be_asked_to_run_anywhere() -> None:
    assert sent(message(inference_geo="global"))["inference_geo"] == "global"


def test_geminis_usual_tier_of_service_may_be_named() -> None:
    assert sent(content(serviceTier="standard"))["serviceTier"] == "standard"


def test_of_a_name_that_stands_twice_the_last_one_counts_for_all() -> None:
    call = openai.read_chat(b'{"model":"a","model":"b","n":1,"messages":[]}')
    assert call.model == "b"
    assert b'"a"' not in call.governed(CHOICE, end_user=USER).body


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


def test_the_same_call_has_the_same_hash_and_another_has_another() -> None:
    assert chat().request_hash == chat().request_hash
    hashes = {
        chat().request_hash,
        chat(stream=True).request_hash,
        response().request_hash,
        message().request_hash,
        message({"anthropic-version": "2023-06-01"}).request_hash,
        content().request_hash,
        gemini.read_stream("v1", "gemini-pro", b"{}", as_events=True).request_hash,
        gemini.read_stream("v1", "gemini-pro", b"{}", as_events=False).request_hash,
    }
    assert len(hashes) == 8


def test_only_the_chunk_that_tells_usage_is_hidden() -> None:
    framing = openai.WithoutUsage()
    first = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    words = b'data: {"choices":[{"delta":{"content":"\\"choices\\":[]"}}],"usage":null}\n\n'
    usage = b'data: {"choices": [],"usage":{"prompt_tokens":1}}\n\n'
    done = b"data: [DONE]\n\n"
    assert framing.shown(first + words + usage + done) == first + words + done
    assert framing.shown(usage) == b""
    assert framing.shown(words) == words


def test_a_stored_answer_is_what_it_was() -> None:
    answer = StoredAnswer("text/event-stream; charset=utf-8", b"data: 1\n\ndata: 2\n\n")
    assert StoredAnswer.from_bytes(answer.to_bytes()) == answer
    told = {"openai-version": "2020-10-01", "openai-processing-ms": "12"}
    answer = StoredAnswer(answer.media_type, b"\n;\t\n", told)
    assert StoredAnswer.from_bytes(answer.to_bytes()) == answer
    other = StoredAnswer("application/json", b"{}", {"set-cookie": "a"})
    assert StoredAnswer.from_bytes(other.to_bytes()).vendor_headers == {}
