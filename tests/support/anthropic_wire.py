"""Anthropic's wire: prompts as it is asked, and streams as it answers."""

from __future__ import annotations

from typing import Any

import orjson

from services.chat.domain.content import Utterance as Said
from services.chat.domain.frames import Frame
from services.chat.domain.turn import Prompt
from services.chat.providers.anthropic import Anthropic, stream_reader
from tests.support.wires import a_prompt, whole

WIRE = Anthropic()


OLD, NEW = "2023-06-01", "2026-10-21"


SONNET, OPUS, OLD_SONNET = "claude-sonnet-5-5", "claude-opus-5-5", "claude-sonnet-4-6"


USAGE = {
    "input_tokens": 200,
    "cache_creation_input_tokens": 500,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"thinking_tokens": 0},
    "service_tier": "standard",
    "speed": "standard",
}


def anthropic(*said: Said | str, **parts: Any) -> Prompt:
    return a_prompt("anthropic", *said, **parts)


def asked(*said: Said | str, **parts: Any) -> dict[str, Any]:
    return dict(WIRE.request(anthropic(*said, **parts), stream=False).body)


def event(kind: str, **fields: Any) -> bytes:
    payload = orjson.dumps({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), payload)


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def block(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": SONNET}
    return event("message_start", message={**message, "content": [], "usage": {**USAGE, **usage}})


def end(reason: str | None = "end_turn", usage: Any = None, **more: Any) -> bytes:
    usage = {"output_tokens": 350} if usage is None else usage
    changed = {"stop_reason": reason, "stop_sequence": None, **more}
    return event("message_delta", delta=changed, usage=usage) + event("message_stop")


PING = event("ping")


TEXT = (
    start()
    + block(0, "text", text="")
    + PING
    + delta(0, "text_delta", text="Grüße, ")
    + delta(0, "text_delta", text="漢字\u2028🙂")
    + stop(0)
)


TOOLS = (
    start()
    + block(0, "thinking", thinking="", signature="")
    + delta(0, "thinking_delta", thinking="Let me ")
    + delta(0, "thinking_delta", thinking="see.")
    + delta(0, "signature_delta", signature="c2ln")
    + stop(0)
    + block(1, "redacted_thinking", data="b3BhcXVl")
    + stop(1)
    + block(2, "text", text="")
    + delta(2, "text_delta", text="Wait.")
    + stop(2)
    + block(3, "tool_use", id="toolu_1", name="look", input={})
    + delta(3, "input_json_delta", partial_json="")
    + delta(3, "input_json_delta", partial_json='{"q":')
    + delta(3, "input_json_delta", partial_json=' "x"}')
    + stop(3)
    + block(4, "tool_use", id="toolu_2", name="now", input={})
    + delta(4, "input_json_delta", partial_json="")
    + stop(4)
    + end("tool_use")
)


def streamed(data: bytes) -> list[Frame]:
    return whole(stream_reader(), data)
