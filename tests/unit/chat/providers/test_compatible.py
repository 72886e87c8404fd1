"""An operator's own server: the same wire as OpenAI's, in its older form."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.chat.domain.content import ContentPart, ImagePart, Role, TextPart, Tool
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.domain.fallback import fallbacks
from services.chat.domain.frames import Text, Thinking
from services.chat.providers.compatible import Compatible
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from shared.vendors.failures import VendorFailed, VendorOverloaded, VendorRefused
from tests.support.wires import a_prompt, read, the_end, told, whole

WIRE = Compatible()


def body_of(*said: Said | str, stream: bool = False, **parts: Any) -> Any:
    request = WIRE.request(a_prompt("compatible", *said, model="llama", **parts), stream=stream)
    assert request.path == "/v1/chat/completions"
    return request.body


def test_a_plain_question_tells_nothing_of_the_user() -> None:
    assert body_of("hello", system_prompt="Be brief.") == {
        "model": "llama",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello"},
        ],
        "max_tokens": 1000,
    }


def test_wishes_go_to_every_model() -> None:
    body = body_of(
        temperature=0.0, top_p=0.5, stop=["x"], effort="max", tools=[Tool("look")], stream=True
    )
    assert (body["temperature"], body["top_p"], body["stop"]) == (0.0, 0.5, ["x"])
    assert body["reasoning_effort"] == "high"
    assert body["tools"] == [{"type": "function", "function": {"name": "look"}}]
    assert body["stream_options"] == {"include_usage": True}


def test_an_image_comes_by_its_bytes() -> None:
    parts: list[ContentPart] = [TextPart("?"), ImagePart("image/png", b"\x89P")]
    (message,) = body_of(Said(Role.USER, "?", parts=parts))["messages"]
    assert message["content"][1]["image_url"] == {"url": "data:image/png;base64,iVA="}


def test_no_url_of_a_user_is_fetched_within_the_operators_network() -> None:
    parts: list[ContentPart] = [ImagePart(url="https://169.254.169.254/latest/meta-data")]
    with pytest.raises(VendorRejectedRequest):
        body_of(Said(Role.USER, "", parts=parts))


def test_an_image_of_earlier_that_another_provider_fetched_is_named_alone() -> None:
    url = ImagePart(url="https://a.test/b.png")
    shown: list[ContentPart] = [TextPart("?"), url, ImagePart("image/png", b"P")]
    said: list[Said | str] = [
        Said(Role.USER, "?", parts=shown),
        Said(Role.ASSISTANT, "a cat"),
        "and now?",
    ]
    first, _, last = body_of(*said)["messages"]
    assert [part["type"] for part in first["content"]] == ["text", "text", "image_url"]
    assert "a.test" not in str(first)
    assert last["content"] == "and now?"


def test_it_stands_in_for_another_only_where_it_can_see_the_images() -> None:
    catalogue = ModelCatalogue(own={"*": ["llama"]})
    can = {"compatible": WIRE.capabilities}
    for image, count in ((ImagePart("image/png", b"P"), 1), (ImagePart(url="https://a.test"), 0)):
        prompt = a_prompt("openai", Said(Role.USER, "?", parts=[image]))
        found = fallbacks(prompt, TIERS["pro"], ["compatible"], [], can, catalogue)
        assert len(found) == count


def chunk(delta: Any, finish: str | None = None, **parts: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "c", "model": "llama", "choices": [choice], **parts}
    return b"data: " + orjson.dumps(data) + b"\n\n"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_that_a_server_shows_is_no_part_of_the_answer(field: str) -> None:
    data = chunk({field: "Hm."}) + chunk({"content": "Hi"}) + chunk({}, "stop")
    frames = whole(WIRE.raw_reader("/v1/chat/completions", streamed=True), data)
    assert frames[1:3] == [Thinking("Hm."), Text("Hi")]


def test_usage_that_comes_with_every_piece() -> None:
    def usage(tokens: int) -> dict[str, int]:
        return {"prompt_tokens": 3, "completion_tokens": tokens}

    data = chunk({"content": "a"}, usage=usage(1)) + chunk({"content": "b"}, "stop", usage=usage(2))
    frames = whole(WIRE.raw_reader("/v1/chat/completions", streamed=True), data)
    counted = the_end(frames).usage
    assert counted is not None
    assert (told(frames)[0], counted.total_tokens) == ("ab", 5)


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"error": "out of memory"}\n\n',
        b'data: {"error": {"code": 500, "type": "internal", "message": "no"}}\n\n',
        b'data: {"object": "error", "message": "no", "type": "InternalServerError"}\n\n',
        b'error: {"code": 500, "message": "no"}\n\n',
    ],
)
def test_each_servers_way_of_failing(data: bytes) -> None:
    frames, failure = read(WIRE.raw_reader("/v1/chat/completions", streamed=True), [data])
    assert (frames, type(failure)) == ([], VendorFailed)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"code": 400, "type": "exceed_context_size_error"}}, PromptTooLong),
        (
            400,
            {"object": "error", "message": "This model's maximum context length is 4096 tokens."},
            PromptTooLong,
        ),
        (400, {"error": {"message": "no", "type": "BadRequestError"}}, VendorRejectedRequest),
        (404, {"error": {"message": "model 'x' not found", "type": "api_error"}}, ModelUnavailable),
        (503, {"error": {"code": 503, "message": "Loading model"}}, VendorOverloaded),
        (502, {}, VendorOverloaded),
        (401, {"error": {"code": 401, "message": "Invalid API Key"}}, VendorRefused),
        (403, {}, VendorRefused),
    ],
)
def test_a_refusal_never_speaks_of_a_key_that_the_user_does_not_have(
    status: int, body: Any, kind: type[VendorRefused]
) -> None:
    failure = WIRE.refusal(status, body, {})
    assert type(failure) is kind
    assert "key" not in failure.message.lower()
    assert failure.facts["provider"] == "compatible"
