"""POST /v1/messages and /v1/messages/count_tokens."""

from functools import lru_cache
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.answers import (
    IMAGE_TOKENS,
    THOUGHT,
    TOOL_TOKENS,
    Answer,
    Ask,
    Usage,
    answer,
    count_tokens,
)
from tests.support.simulator.anthropic.errors import failure
from tests.support.simulator.anthropic.headers import headers_for
from tests.support.simulator.anthropic.rules import (
    SIGNATURE,
    THOUGHTFUL,
    check_count,
    check_message,
)
from tests.support.simulator.anthropic.versions import betas_of, is_new
from tests.support.simulator.call import Call
from tests.support.simulator.delivery import Frames, stream, whole
from tests.support.simulator.ids import new_id
from tests.support.simulator.tools import Tool, ToolCall
from tests.support.simulator.wire import dump, event, quoted

Json = dict[str, Any]

_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_PING: Final = event({"type": "ping"})
_NOVELTY: Final = event({"type": "content_block_novelty", "index": 0, "novelty": {}})


async def create(call: Call) -> web.StreamResponse:
    body = call.body
    check_message(body, new_version=is_new(call), betas=betas_of(call))
    text, from_tool = _last_words(body["messages"])
    said, directives = call.listen(text)
    await call.obey(directives)
    draft = _Draft(body, answer(_read(body, said, from_tool), call.options), call)
    reply = draft.reply
    call.promise(draft.id, reply.usage.canonical(), reply.usage_after)
    call.brought_back(_thoughts_in(body["messages"]))
    if not body.get("stream"):
        return await whole(call, dump(draft.message()), headers_for(call))
    frames = _Stream(draft, odd="odd" in call.options, request_id=call.request_id).frames()
    return await stream(call, frames, headers_for(call, stream=True))


async def count(call: Call) -> web.StreamResponse:
    body = await call.json()
    check_count(body, new_version=is_new(call), betas=betas_of(call))
    return await whole(call, dump({"input_tokens": _tokens_in(body)}), headers_for(call))


def _last_words(messages: list[Json]) -> tuple[str, bool]:
    for message in reversed(messages):
        if message["role"] == "user":
            text = _text_of(message["content"])
            results = _tool_results(message["content"])
            return (results, True) if results and not text else (text, False)
    return "", False


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part["text"]) for part in parts if part.get("type") == "text")


def _tool_results(content: Any) -> str:
    blocks = content if isinstance(content, list) else []
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return " ".join(_text_of(block.get("content")) for block in results)


def _thoughts_in(messages: list[Json]) -> int:
    contents = [message["content"] for message in messages]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return sum(block.get("type") == "thinking" for block in blocks)


def _read(body: Json, said: str, from_tool: bool) -> Ask:
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Ask(
        said=said,
        input_tokens=_tokens_in(body),
        from_tool=from_tool,
        cap=body["max_tokens"],
        stops=tuple(body.get("stop_sequences") or ()),
        tools=tuple(
            Tool(tool["name"], tool["input_schema"])
            for tool in body.get("tools") or ()
            if "input_schema" in tool
        ),
        choice=_choice(body.get("tool_choice") or {}),
        wants_json=form.get("type") == "json_schema",
        schema=form.get("schema"),
    )


def _choice(given: Json) -> str:
    kind = given.get("type", "auto")
    return str(given["name"] if kind == "tool" else {"any": "required"}.get(kind, kind))


def _tokens_in(body: Json) -> int:
    tokens = TOOL_TOKENS * len(body.get("tools") or ()) + count_tokens(_text_of(body.get("system")))
    for message in body["messages"]:
        content = message["content"]
        tokens += count_tokens(_text_of(content)) + count_tokens(_tool_results(content))
        for block in content if isinstance(content, list) else ():
            if block.get("type") == "image":
                tokens += IMAGE_TOKENS
            elif block.get("type") == "tool_use":
                tokens += 1 + count_tokens(dump(block.get("input")).decode())
    return tokens


class _Draft:
    """One message in its states from empty to final."""

    def __init__(self, body: Json, reply: Answer, call: Call) -> None:
        self.id = new_id("msg_")
        self.reply = reply
        self._body = body
        self._with_usage = "nousage" not in call.options
        prefix = THOUGHTFUL if reply.thinks else "toolu_"
        self._calls = [(tool_call, new_id(prefix)) for tool_call in reply.calls]

    def started(self) -> Json:
        return {**self._message([], None), **self._usage(1)}

    def message(self) -> Json:
        filled = self._message(self._content(), self.stop_reason())
        return {**filled, **self.end(), **self._usage(self.reply.usage.output)}

    def _message(self, content: list[Json], stop_reason: str | None) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self._body["model"],
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "stop_details": None,
        }

    def end(self) -> Json:
        reason = self.stop_reason()
        details = {"type": "refusal", "category": "general_harms", "explanation": None}
        return {
            "stop_reason": reason,
            "stop_sequence": self.reply.script.stop_sequence,
            "stop_details": details if reason == "refusal" else None,
        }

    def stop_reason(self) -> str:
        if self.reply.refused:
            return "refusal"
        return _STOP_REASONS.get(self.reply.finish, self.reply.finish)

    def _content(self) -> list[Json]:
        blocks: list[Json] = [self.thinking()] if self.reply.thinks else []
        blocks += [self.tool_use(*call) for call in self._calls]
        text = self.reply.script.text
        return [*blocks, {"type": "text", "text": text}] if text else blocks

    def thinking(self) -> Json:
        return {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}

    def tool_use(self, call: ToolCall, tool_use_id: str) -> Json:
        return {"type": "tool_use", "id": tool_use_id, "name": call.name, "input": call.arguments}

    def calls(self) -> list[tuple[ToolCall, str]]:
        return self._calls

    def _usage(self, output: int) -> Json:
        usage = self.reply.usage
        if not self._with_usage:
            return {"usage": {"input_tokens": 0, "output_tokens": 0}}
        return {
            "usage": {
                **_input_usage(usage),
                "cache_creation": {
                    "ephemeral_5m_input_tokens": usage.cache_write,
                    "ephemeral_1h_input_tokens": 0,
                },
                "output_tokens": output,
                "output_tokens_details": {"thinking_tokens": usage.reasoning},
                "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
                "service_tier": "standard",
                "speed": self._body.get("speed") or "standard",
            }
        }

    def usage_so_far(self, output: int) -> Json:
        """Cumulative: the last one counts, and nothing is added to it."""
        if not self._with_usage:
            return {"output_tokens": 0}
        usage = self.reply.usage
        details = {"output_tokens_details": {"thinking_tokens": usage.reasoning}}
        return {**_input_usage(usage), "output_tokens": output, **details}


def _input_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.fresh,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
    }


class _Stream:
    """The events of one message; those of the text depend on nothing but the words."""

    def __init__(self, draft: _Draft, *, odd: bool, request_id: str) -> None:
        self._draft = draft
        self._odd = odd
        self._request_id = request_id
        self._index = 0

    def frames(self) -> Frames:
        opening = event({"type": "message_start", "message": self._draft.started()})
        if self._odd:
            opening = _PING + opening + _NOVELTY
        if self._draft.reply.thinks:
            opening += b"".join(self._thinking())
        calls = self._draft.calls()
        if calls:
            middle = [frame for call in calls for frame in self._tool_use(*call)]
            return Frames(opening + _PING, middle, self._end(), self._failure)
        opening += self._start({"type": "text", "text": ""}) + _PING
        return Frames(opening, self._text(), self._stop() + self._end(), self._failure)

    def _start(self, block: Json) -> bytes:
        return event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: Json) -> bytes:
        return event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        self._index += 1
        return event({"type": "content_block_stop", "index": self._index - 1})

    def _thinking(self) -> list[bytes]:
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        signature = {"type": "signature_delta", "signature": SIGNATURE}
        thought = {"type": "thinking_delta", "thinking": THOUGHT}
        return [self._start(empty), self._delta(thought), self._delta(signature), self._stop()]

    def _text(self) -> list[bytes]:
        pieces = [_text_delta(self._index, piece) for piece in self._draft.reply.script.pieces]
        return [piece + _PING + _NOVELTY for piece in pieces] if self._odd else pieces

    def _tool_use(self, call: ToolCall, tool_use_id: str) -> list[bytes]:
        block = {**self._draft.tool_use(call, tool_use_id), "input": {}}
        deltas = [
            self._delta({"type": "input_json_delta", "partial_json": part})
            for part in ("", *call.fragments())
        ]
        return [self._start(block), *deltas, self._stop()]

    def _end(self) -> bytes:
        output = self._draft.reply.usage.output
        ends = self._message_delta({**self._draft.end()}, output)
        if self._odd:
            early = {"stop_reason": None, "stop_sequence": None}
            ends = self._message_delta(early, output // 2) + _PING + ends
        return ends + event({"type": "message_stop"})

    def _message_delta(self, delta: Json, output: int) -> bytes:
        usage = self._draft.usage_so_far(output)
        return event({"type": "message_delta", "delta": delta, "usage": usage})

    def _failure(self, kind: str) -> bytes:
        return failure(self._request_id)


@lru_cache(maxsize=65536)
def _text_delta(index: int, piece: str) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"text_delta","text":%b}}\n\n' % (index, quoted(piece))
    )
