"""A message by hand and by its model: the same JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.chat.api.message_body import AnswerBody, MessageBody, answer_json, message_document
from services.chat.api.message_body import to_json as told
from services.chat.domain.content import Role, ToolCall, ToolResult
from services.chat.domain.conversation import (
    Attachment,
    Message,
    MessageId,
    MessageStatus,
    SessionId,
)
from services.chat.domain.usage import Usage
from tests.support.chat import NOON

PLAIN: dict[str, Any] = {}
FULL: dict[str, Any] = {
    "created_at": NOON + timedelta(microseconds=1234),
    "provider": "openai",
    "model": "m",
    "usage": Usage(1, 2, 3, 4, 5, service_tier="default").to_record(),
    "cost_microusd": 1_234_567,
    "processing_time_ms": 12,
    "finish_reason": "tool_calls",
    "parent_id": MessageId(uuid4()),
    "active": False,
    "tool_calls": (ToolCall("c", "look", '{"a": "ß"}', signature="s"),),
    "tool_results": (ToolResult("c", "found", "look", failed=True),),
    "attachments": (
        Attachment(uuid4(), "image/png", size_bytes=3),
        Attachment(uuid4(), None, "https://example.com/a.png"),
    ),
    "safety_ratings": {"HARM_CATEGORY_HARASSMENT": "NEGLIGIBLE"},
}


def a_message(**parts: Any) -> Message:
    ids = MessageId(uuid4()), SessionId(uuid4())
    said = {"created_at": NOON, **parts}
    return Message(*ids, Role.ASSISTANT, "né \u2028 🙂", MessageStatus.INTERRUPTED, **said)


@pytest.mark.parametrize("parts", [PLAIN, FULL])
def test_by_hand_as_by_its_model(parts: dict[str, Any]) -> None:
    message = a_message(**parts)

    by_model = MessageBody.of(message).model_dump(mode="json")
    assert list(message_document(message)) == list(by_model)
    assert json.loads(told(message_document(message))) == by_model


@pytest.mark.parametrize("parts", [PLAIN, FULL])
def test_the_answer_too(parts: dict[str, Any]) -> None:
    message = a_message(**parts)

    by_model = AnswerBody.of(message, "stop", "gemini", 3).model_dump(mode="json")
    by_hand = json.loads(answer_json(message, "stop", "gemini", 3))
    assert by_hand == by_model
    assert list(by_hand) == list(by_model)
