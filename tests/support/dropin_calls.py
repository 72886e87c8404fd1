"""Calls of the vendors' own interfaces, as their doors read them."""

from __future__ import annotations

import json
from typing import Any

import orjson

from services.chat.api import dropin_anthropic_calls as anthropic
from services.chat.api import dropin_gemini_calls as gemini
from services.chat.api import dropin_openai_calls as openai
from services.chat.api.dropin_call import VendorCall
from services.chat.domain.model_choice import ModelChoice

CHOICE = ModelChoice("openai", "the-model", 1_000)


USER = "opaque-id"


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


def held_by(source: Any, kind: str = "image") -> dict[str, Any]:
    """A document of Anthropic's that holds a block."""
    held = [{"type": "text", "text": "See:"}, {"type": kind, "source": source}]
    return {"type": "document", "source": {"type": "content", "content": held}}
