"""What is governed in a client's own body, and that everything else is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from services.chat.api import dropin_gemini_calls as gemini
from services.chat.api import dropin_openai_calls as openai
from services.chat.api.dropin_call import VendorCall
from services.chat.domain.errors import (
    ItemNotKept,
)
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.relayed import StoredAnswer
from services.chat.domain.relaying import governed_choice
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from shared.vendors.dropins import BadParameter
from tests.support.dropin_calls import (
    CHOICE,
    USER,
    chat,
    content,
    message,
    response,
    sent,
)


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
