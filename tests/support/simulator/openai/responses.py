"""POST /responses: one JSON object, or named events that end with a terminal one."""

import time
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.answers import (
    IMAGE_TOKENS,
    REFUSED,
    TOOL_TOKENS,
    Answer,
    Ask,
    Usage,
    answer,
    count_tokens,
)
from tests.support.simulator.call import Call
from tests.support.simulator.delivery import Frames, stream, whole
from tests.support.simulator.ids import new_id
from tests.support.simulator.openai.errors import responses_failure
from tests.support.simulator.openai.headers import headers_for
from tests.support.simulator.openai.rules import check_image, check_responses
from tests.support.simulator.tools import Tool, ToolCall
from tests.support.simulator.wire import dump, event, quoted

Json = dict[str, Any]

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_TIERS: Final = {None: "default", "auto": "default"}


async def respond(call: Call) -> web.StreamResponse:
    body = call.body
    check_responses(body)
    items = _items(body)
    text, from_tool = _last_words(items)
    said, directives = call.listen(text)
    await call.obey(directives)
    reply = answer(_read(body, items, said, from_tool), call.options)
    draft = _Draft(body, reply, with_usage="nousage" not in call.options)
    call.promise(draft.id, reply.usage.canonical(), reply.usage_after)
    if not body.get("stream"):
        return await whole(call, dump(draft.finished()), headers_for(call))
    frames = _Stream(draft, odd="odd" in call.options).frames()
    return await stream(call, frames, headers_for(call, stream=True))


async def count(call: Call) -> web.StreamResponse:
    items = _items(await call.json())
    tools = len(call.body.get("tools") or ())
    tokens = _tokens_in(items) + count_tokens(str(call.body.get("instructions") or ""))
    counted = {"object": "response.input_tokens", "input_tokens": tokens + TOOL_TOKENS * tools}
    return await whole(call, dump(counted), headers_for(call))


def _items(body: Json) -> list[Json]:
    given = body.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [item for item in given or () if isinstance(item, dict)]


def _last_words(items: list[Json]) -> tuple[str, bool]:
    for item in reversed(items):
        if item.get("type") == "function_call_output":
            return _text_of(item.get("output")), True
        if item.get("role") == "user":
            return _text_of(item.get("content")), False
    return "", False


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part["text"]) for part in parts if "text" in part)


def _tokens_in(items: list[Json]) -> int:
    tokens = 0
    for position, item in enumerate(items):
        content = item.get("content")
        tokens += count_tokens(_text_of(content)) + count_tokens(str(item.get("output", "")))
        tokens += count_tokens(str(item.get("arguments", "")))
        for part in content if isinstance(content, list) else ():
            if part.get("type") == "input_image":
                check_image(part.get("image_url"), f"input[{position}].content")
                tokens += IMAGE_TOKENS
    return tokens


def _read(body: Json, items: list[Json], said: str, from_tool: bool) -> Ask:
    form = (body.get("text") or {}).get("format") or {}
    tools = tuple(
        Tool(tool["name"], tool.get("parameters"))
        for tool in body.get("tools") or ()
        if tool.get("type") == "function"
    )
    instructions = count_tokens(str(body.get("instructions") or ""))
    return Ask(
        said=said,
        input_tokens=_tokens_in(items) + instructions + TOOL_TOKENS * len(tools),
        from_tool=from_tool,
        cap=body.get("max_output_tokens"),
        tools=tools,
        choice=_choice(body.get("tool_choice")),
        wants_json=form.get("type") in ("json_object", "json_schema"),
        schema=form.get("schema"),
    )


def _choice(given: Any) -> str:
    if isinstance(given, dict):
        return str(given.get("name", "required"))
    return str(given or "auto")


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


class _Draft:
    """One response object in its states from empty to final."""

    def __init__(self, body: Json, reply: Answer, *, with_usage: bool) -> None:
        self.reply = reply
        self.id = new_id("resp_")
        self.message_id = new_id("msg_")
        self._with_usage = with_usage
        self._tells_thoughts = "reasoning.encrypted_content" in (body.get("include") or ())
        self._reasoning = {"id": new_id("rs_"), "type": "reasoning", "summary": []}
        self._calls = [(call, new_id("fc_"), new_id("call_")) for call in reply.calls]
        tier = body.get("service_tier")
        self._fixed: Json = {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata") or {},
            "model": body["model"],
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
            "service_tier": _TIERS.get(tier, tier),
            "store": body.get("store", True),
            "temperature": body.get("temperature"),
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": body.get("top_p"),
            "truncation": "disabled",
        }

    def started(self) -> Json:
        state = {"status": "in_progress", "error": None, "incomplete_details": None}
        return {**self._fixed, **state, "output": [], "usage": None}

    def finished(self) -> Json:
        reason = _INCOMPLETE.get(self.reply.finish)
        state = {
            "status": "incomplete" if reason else "completed",
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
        }
        usage = {"usage": _usage(self.reply.usage)} if self._with_usage else {}
        return {**self._fixed, **state, "output": self.items(), **usage}

    def failed(self) -> Json:
        fault = {"code": "server_error", "message": "The model failed to answer."}
        return {**self.started(), "status": "failed", "error": fault}

    def items(self) -> list[Json]:
        thoughts = [self.reasoning()] if self.reply.thinks else []
        return [*thoughts, *(self.calls() or [self.message()])]

    def reasoning(self) -> Json:
        """What it was is told to nobody but who asks for it, and then encrypted."""
        if not self._tells_thoughts:
            return self._reasoning
        return {**self._reasoning, "encrypted_content": "c2ltdWxhdGVkIHRob3VnaHQ="}

    def message(self) -> Json:
        return {**self.empty_message(), "status": "completed", "content": [self.part()]}

    def empty_message(self) -> Json:
        named = {"id": self.message_id, "type": "message", "role": "assistant"}
        return {**named, "status": "in_progress", "content": []}

    def part(self, text: str | None = None) -> Json:
        if self.reply.refused:
            return {"type": "refusal", "refusal": REFUSED if text is None else text}
        said = self.reply.script.text if text is None else text
        return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}

    def calls(self) -> list[Json]:
        return [
            {
                "type": "function_call",
                "id": item_id,
                "call_id": call_id,
                "name": call.name,
                "arguments": call.arguments_json,
                "status": "completed",
            }
            for call, item_id, call_id in self._calls
        ]


class _Stream:
    """Numbers the events as it makes them; the frames of the text are glued, not serialised."""

    def __init__(self, draft: _Draft, *, odd: bool) -> None:
        self._draft = draft
        self._odd = odd
        self._number = -1
        self._output_index = 0

    def frames(self) -> Frames:
        opening = self._event("response.created", response=self._draft.started())
        opening += self._event("response.in_progress", response=self._draft.started())
        if self._odd:
            opening += b": a comment\n\n" + self._event("response.novelty", novelty={"x": 1})
        if self._draft.reply.thinks:
            opening += self._item("added", self._draft.reasoning())
            opening += self._item("done", self._draft.reasoning())
            self._output_index += 1
        if self._draft.reply.calls:
            return Frames(opening, self._call_events(), self._terminal(), self._failure)
        opening += self._message_start()
        middle = self._text_events()
        return Frames(opening, middle, self._message_end() + self._terminal(), self._failure)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": kind, **fields, "sequence_number": self._number})

    def _item(self, state: str, item: Json) -> bytes:
        kind = f"response.output_item.{state}"
        return self._event(kind, output_index=self._output_index, item=item)

    def _place(self) -> Json:
        index = {"output_index": self._output_index, "content_index": 0}
        return {"item_id": self._draft.message_id, **index}

    def _message_start(self) -> bytes:
        added = self._item("added", self._draft.empty_message())
        part = self._draft.part("")
        return added + self._event("response.content_part.added", **self._place(), part=part)

    def _text_kind(self) -> str:
        return "response.refusal" if self._draft.reply.refused else "response.output_text"

    def _text_events(self) -> list[bytes]:
        template = {"type": f"{self._text_kind()}.delta", **self._place(), "delta": "\0"}
        before, _, after = event({**template, "logprobs": []}).partition(quoted("\0"))
        after = after[: -len(b"}\n\n")] + b',"sequence_number":%d}\n\n'
        first = self._number + 1
        pieces = self._draft.reply.script.quoted
        self._number += len(pieces)
        return [before + piece + after % number for number, piece in enumerate(pieces, first)]

    def _message_end(self) -> bytes:
        part = self._draft.part()
        said = {"refusal": REFUSED} if self._draft.reply.refused else {"text": part["text"]}
        logprobs: Json = {} if self._draft.reply.refused else {"logprobs": []}
        kind = f"{self._text_kind()}.done"
        done = self._event(kind, **self._place(), **said, **logprobs)
        done += self._event("response.content_part.done", **self._place(), part=part)
        return done + self._item("done", self._draft.message())

    def _call_events(self) -> list[bytes]:
        frames = []
        for call, item in zip(self._draft.reply.calls, self._draft.calls(), strict=True):
            frames += self._events_of(call, item)
            self._output_index += 1
        return frames

    def _events_of(self, call: ToolCall, item: Json) -> list[bytes]:
        place = {"item_id": item["id"], "output_index": self._output_index}
        kind = "response.function_call_arguments"
        first = self._item("added", {**item, "arguments": "", "status": "in_progress"})
        parts = [self._event(f"{kind}.delta", **place, delta=part) for part in call.fragments()]
        whole_call = {"name": call.name, "arguments": call.arguments_json}
        done = self._event(f"{kind}.done", **place, **whole_call)
        return [first, *parts, done + self._item("done", item)]

    def _terminal(self) -> bytes:
        final = self._draft.finished()
        return self._event(f"response.{final['status']}", response=final)

    def _failure(self, kind: str) -> bytes:
        if kind == "stream_failed":
            return self._event("response.failed", response=self._draft.failed())
        return responses_failure(kind, self._number + 1)
