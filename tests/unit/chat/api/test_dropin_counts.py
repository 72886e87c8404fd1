"""What a client's own body counts as: images, files, text, and what a tier has to include."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from services.chat.api import dropin_anthropic_calls as anthropic
from services.chat.api.dropin_call import VendorCall
from shared.vendors.dropins import BadParameter
from tests.support.dropin_calls import (
    PNG,
    added,
    added_before,
    chat,
    content,
    file_part,
    held_by,
    message,
    response,
)


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


ADDRESS = "https://papers.test/a.pdf"


def by_address(door: str) -> VendorCall:
    """A file that the vendor fetches, in the wire of each door that takes one."""
    if door == "responses":
        part: dict[str, Any] = {"type": "input_file", "file_url": ADDRESS}
        return response(input=[{"type": "function_call_output", "output": [part]}])
    if door == "messages":
        part = {"type": "document", "source": {"type": "url", "url": ADDRESS}}
        held: dict[str, Any] = {"type": "tool_result", "content": [part]}
        return message(messages=[{"role": "user", "content": [held]}])
    part = {"file_data": {"file_uri": ADDRESS, "mime_type": "application/pdf"}}
    held = {"functionResponse": {"name": "f", "response": {}, "parts": [part]}}
    return content(contents=[{"parts": [held]}])


@pytest.mark.parametrize("door", ("responses", "messages", "gemini"))
def test_a_file_that_the_vendor_fetches_may_be_of_any_length(door: str) -> None:
    call = by_address(door)
    assert call.is_open
    assert 1_000 <= call.input_estimate < 2_000
    assert call.features == {"multimodal"}


@pytest.mark.parametrize("door", DOORS)
def test_a_file_that_is_here_is_as_long_as_it_is(door: str) -> None:
    assert not with_file(door, PAGES, "application/pdf").is_open


def test_an_image_that_the_vendor_fetches_is_an_image() -> None:
    picture = "https://pictures.test/a.png"
    source = {"type": "url", "url": picture}
    for call in (
        chat(messages=[{"role": "user", "content": [an_image_at(picture)]}]),
        response(input=[{"content": [{"type": "input_image", "image_url": picture}]}]),
        message(messages=[{"content": [{"type": "image", "source": source}]}]),
        content(contents=[file_part(picture)]),
    ):
        assert not call.is_open
        assert call.features == {"multimodal"}


def an_image_at(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


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
