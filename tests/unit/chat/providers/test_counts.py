"""What a vendor counted is its word only where it can be read; else nobody counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from services.chat.domain.frames import Began
from services.chat.domain.usage import Usage
from services.chat.providers import chat_wires
from shared.events.usage import LONGEST_TEXT
from tests.support.wires import the_end, whole

Vendor = Callable[..., Any]


def chat_completions(input_: Any, output: Any, **named: Any) -> tuple[str, str, Any]:
    message = {"role": "assistant", "content": "Hello"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {"prompt_tokens": input_, "completion_tokens": output, "total_tokens": 15}
    return "openai", "/v1/chat/completions", {"choices": choices, "usage": usage, **named}


def responses(input_: Any, output: Any, **named: Any) -> tuple[str, str, Any]:
    said = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    usage = {"input_tokens": input_, "output_tokens": output}
    document = {"status": "completed", "output": [said], "usage": usage, **named}
    return "openai", "/v1/responses", document


def messages(input_: Any, output: Any, **named: Any) -> tuple[str, str, Any]:
    usage = {"input_tokens": input_, "output_tokens": output}
    usage |= {"speed": named["service_tier"]} if "service_tier" in named else {}
    said = {"content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"}
    return "anthropic", "/v1/messages", {"type": "message", "usage": usage, **said, **named}


def generate_content(input_: Any, output: Any, **named: Any) -> tuple[str, str, Any]:
    candidate = {"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
    usage = {"promptTokenCount": input_, "candidatesTokenCount": output}
    named = {"responseId": named.get("id"), "modelVersion": named.get("model")}
    document = {"candidates": [candidate], "usageMetadata": usage, **named}
    return "gemini", "/v1/models/a:generateContent", document


vendors = pytest.mark.parametrize(
    "vendor", [chat_completions, responses, messages, generate_content]
)


def counted(answer: tuple[str, str, Any]) -> Usage | None:
    provider, path, document = answer
    reader = chat_wires[provider].raw_reader(path, streamed=False)
    return the_end(whole(reader, orjson.dumps(document))).usage


@vendors
@pytest.mark.parametrize(
    ("input_", "output"), [(10, 5), ("10", "5"), (10.0, 5.0), ("10", 5), (10, 5.0)]
)
def test_a_whole_number_is_one_however_it_is_written(
    vendor: Vendor, input_: Any, output: Any
) -> None:
    usage = counted(vendor(input_, output))
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (10, 5, "provider")


@vendors
@pytest.mark.parametrize(
    ("input_", "output"),
    [
        (None, None),
        ("ten", "five"),
        (10, "five"),
        (10, 5.5),
        (10, -5),
        (10, True),
        (10, [5]),
        (10, 2 * 10**12),
        (10, 10**19),
        (10, "9" * 5_000),
        (10**19, 5),
        (1e300, 5),
    ],
    ids=str,
)
def test_what_is_no_count_is_not_the_vendors_word_of_nothing(
    vendor: Vendor, input_: Any, output: Any
) -> None:
    assert counted(vendor(input_, output)) is None


@vendors
def test_one_count_is_enough(vendor: Vendor) -> None:
    usage = counted(vendor(10, None))
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (10, 0)


@pytest.mark.parametrize("vendor", [chat_completions, responses])
def test_the_vendors_word_of_nothing_is_one(vendor: Vendor) -> None:
    assert counted(vendor(0, 0)) == Usage()


def test_a_sum_alone_says_nothing_of_its_parts() -> None:
    provider, path, document = chat_completions(10, 5)
    document["usage"] = {"total_tokens": 15}
    assert counted((provider, path, document)) is None


def test_what_can_not_be_read_at_the_end_is_not_what_was_told_on_the_way() -> None:
    def chunk(output: Any, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": finish}
        usage = {"prompt_tokens": 10, "completion_tokens": output}
        return b"data: " + orjson.dumps({"choices": [choice], "usage": usage}) + b"\n\n"

    reader = chat_wires["openai"].raw_reader("/v1/chat/completions", streamed=True)
    assert the_end(whole(reader, chunk(1) + chunk(10**19, "stop"))).usage is None


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ((10, 1), (None, 5)),
        ((10, None), (None, 5)),
        ((10, 5), (None, None)),
        ((9, 1), (10, 5)),
    ],
)
@pytest.mark.parametrize("vendor", [chat_completions, generate_content])
def test_what_is_told_in_pieces_is_put_together(vendor: Vendor, first: Any, last: Any) -> None:
    provider, path, _ = vendor(0, 0)
    path = path.replace("generateContent", "streamGenerateContent")
    told = [orjson.dumps(vendor(*piece)[2]) for piece in (first, last)]
    reader = chat_wires[provider].raw_reader(path, streamed=True)
    usage = the_end(whole(reader, b"".join(b"data: %b\n\n" % one for one in told))).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (10, 5)


def test_a_summing_up_whose_count_can_not_be_read_leaves_the_whole_uncounted() -> None:
    provider, path, document = messages(10, 5)
    step = {"type": "compaction", "input_tokens": 90_000, "output_tokens": 10**19}
    document["usage"]["iterations"] = [step]
    assert counted((provider, path, document)) is None


@vendors
def test_of_long_names_as_much_is_read_as_is_kept(vendor: Vendor) -> None:
    names = dict.fromkeys(("id", "model", "service_tier"), "x" * 400)
    provider, path, document = vendor(10, 5, **names)
    reader = chat_wires[provider].raw_reader(path, streamed=False)
    frames = whole(reader, orjson.dumps(document))
    began, usage = frames[0], the_end(frames).usage
    assert isinstance(began, Began)
    assert usage is not None
    assert began.provider_request_id == began.model == "x" * LONGEST_TEXT
    assert usage.service_tier in (None, "x" * LONGEST_TEXT)
