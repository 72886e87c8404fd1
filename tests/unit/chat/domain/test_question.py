"""Two requests are the same when everything that shapes the answer is."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from services.chat.domain.content import AnswerFormat, ImagePart, Tool, ToolChoice, ToolResult
from services.chat.domain.conversation import MessageId
from tests.support.chat import a_question, a_session

SESSION = a_session()
AN_ID = MessageId(UUID(int=5))


@pytest.mark.parametrize(
    "parts",
    [
        {"content": "other"},
        {"provider": "gemini"},
        {"model": "gpt-4"},
        {"images": ()},
        {"images": (ImagePart("image/png", b"1"),)},
        {"images": (ImagePart("image/png", b"2"),)},
        {"images": (ImagePart(url="https://example.com"),)},
        {"tools": (Tool("f"),)},
        {"tools": (Tool("f", parameters={"type": "object"}),)},
        {"tool_choice": ToolChoice("none")},
        {"tool_results": (ToolResult("1", "x"),)},
        {"temperature": 0.5},
        {"effort": "low"},
        {"answer_format": AnswerFormat()},
        {"answers_again": AN_ID},
        {"edits": AN_ID},
    ],
    ids=str,
)
def test_each_part_makes_it_another_request(parts: dict[str, Any]) -> None:
    plain, other = a_question(SESSION), a_question(SESSION, **parts)
    assert other.request_hash == a_question(SESSION, **parts).request_hash
    assert other.request_hash != plain.request_hash


def test_how_the_answer_travels_is_no_part_of_it() -> None:
    plain = a_question(SESSION)
    assert a_question(SESSION, stream=True).request_hash == plain.request_hash


def test_parts_do_not_run_into_each_other() -> None:
    one = a_question(SESSION, "a", provider="b", model=None)
    other = a_question(SESSION, "ab", provider=None, model=None)
    assert one.request_hash != other.request_hash
