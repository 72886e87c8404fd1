"""What OpenAPI says of the routes that stand in for OpenAI's, which FastAPI does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.http.idempotency_key import PARAMETER
from shared.http.openai_errors import OpenAIErrorBody, openai_errors

_FAILURES = (400, 401, 402, 403, 404, 409, 413, 429, 502, 503)
_TEXT_OR_LIST: Mapping[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]
}
_LIST_OF_OBJECTS: Mapping[str, Any] = {"type": "array", "items": {"type": "object"}}

CHAT_BODY: Mapping[str, Any] = {
    "type": "object",
    "title": "ChatCompletionRequest",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string"},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {
                        "type": "string",
                        "enum": ["developer", "system", "user", "assistant", "tool"],
                    },
                    "content": _TEXT_OR_LIST,
                    "tool_calls": _LIST_OF_OBJECTS,
                    "tool_call_id": {"type": "string"},
                },
            },
        },
        "max_completion_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "reasoning_effort": {"type": "string"},
        "response_format": {"type": "object"},
        "tools": _LIST_OF_OBJECTS,
        "tool_choice": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "parallel_tool_calls": {"type": "boolean"},
        "stream": {"type": "boolean"},
        "stream_options": {"type": "object"},
    },
}
RESPONSES_BODY: Mapping[str, Any] = {
    "type": "object",
    "title": "ResponsesRequest",
    "required": ["model", "input"],
    "properties": {
        "model": {"type": "string"},
        "input": _TEXT_OR_LIST,
        "instructions": {"type": "string"},
        "max_output_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "reasoning": {"type": "object"},
        "text": {"type": "object"},
        "tools": _LIST_OF_OBJECTS,
        "tool_choice": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "parallel_tool_calls": {"type": "boolean"},
        "stream": {"type": "boolean"},
    },
}


def operation(name: str, summary: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """One operation of the OpenAPI document."""
    error = OpenAIErrorBody.model_json_schema(ref_template="#/$defs/{model}")
    shape = error["$defs"]["OpenAIError"]
    failure = {"type": "object", "properties": {"error": shape}, "required": ["error"]}
    described = openai_errors(*_FAILURES)
    return {
        "tags": ["openai"],
        "summary": summary,
        "operationId": name,
        "parameters": [PARAMETER],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The answer, whole or live.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{
                str(status): {
                    "description": str(described[status]["description"]),
                    "content": {"application/json": {"schema": failure}},
                }
                for status in _FAILURES
            },
        },
    }
