"""POST /chat/completions: one JSON object, or events that end with [DONE]."""

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
from tests.support.simulator.openai.errors import chat_failure
from tests.support.simulator.openai.headers import headers_for
from tests.support.simulator.openai.rules import check_chat, check_image
from tests.support.simulator.tools import Tool
from tests.support.simulator.wire import data, dump, quoted

Json = dict[str, Any]

_DONE: Final = b"data: [DONE]\n\n"
_COMMENT: Final = b": a comment that clients must ignore\n\n"
_FINISH: Final = {"stop_sequence": "stop"}
_TIERS: Final = {None: "default", "auto": "default"}


async def complete(call: Call) -> web.StreamResponse:
    body = call.body
    check_chat(body)
    text, from_tool = _last_words(body["messages"])
    said, directives = call.listen(text)
    await call.obey(directives)
    reply = answer(_read(body, said, from_tool), call.options)
    head = _head(body)
    call.promise(head["id"], reply.usage.canonical(), reply.usage_after)
    if not body.get("stream"):
        return await whole(call, dump(_completion(head, reply, call)), headers_for(call))
    options = body.get("stream_options") or {}
    frames = _Stream(head, reply, call, with_usage=options.get("include_usage") is True).frames()
    return await stream(call, frames, headers_for(call, stream=True))


def _last_words(messages: list[Json]) -> tuple[str, bool]:
    """What was said last by the user, or by a tool on the user's behalf."""
    for message in reversed(messages):
        if message["role"] in ("user", "tool", "function"):
            return _text_of(message.get("content")), message["role"] != "user"
    return "", False


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part["text"]) for part in parts if part.get("type") == "text")


def _read(body: Json, said: str, from_tool: bool) -> Ask:
    cap = body.get("max_completion_tokens")
    stop = body.get("stop") or ()
    form = body.get("response_format") or {}
    tools = tuple(
        Tool(tool["function"]["name"], tool["function"].get("parameters"))
        for tool in body.get("tools") or ()
        if tool.get("type") == "function"
    )
    return Ask(
        said=said,
        input_tokens=_tokens_in(body["messages"]) + TOOL_TOKENS * len(tools),
        from_tool=from_tool,
        cap=body.get("max_tokens") if cap is None else cap,
        stops=(stop,) if isinstance(stop, str) else tuple(stop),
        tools=tools,
        choice=_choice(body.get("tool_choice")),
        wants_json=form.get("type") in ("json_object", "json_schema"),
        schema=(form.get("json_schema") or {}).get("schema"),
    )


def _choice(given: Any) -> str:
    if isinstance(given, dict):
        return str((given.get("function") or {}).get("name", "required"))
    return str(given or "auto")


def _tokens_in(messages: list[Json]) -> int:
    tokens = 0
    for position, message in enumerate(messages):
        content = message.get("content")
        tokens += count_tokens(_text_of(content))
        for call in message.get("tool_calls") or ():
            tokens += 1 + count_tokens(str(call.get("function", {}).get("arguments", "")))
        for part in content if isinstance(content, list) else ():
            if part.get("type") == "image_url":
                check_image(part.get("image_url", {}).get("url"), f"messages[{position}].content")
                tokens += IMAGE_TOKENS
    return tokens


def _head(body: Json) -> Json:
    tier = body.get("service_tier")
    return {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "service_tier": _TIERS.get(tier, tier),
        "system_fingerprint": None,
    }


def _finish(reply: Answer) -> str:
    return _FINISH.get(reply.finish, reply.finish)


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": 0,
            "image_tokens": 0,
            "text_tokens": usage.input,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _tool_calls(reply: Answer) -> list[Json]:
    return [
        {
            "id": new_id("call_"),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json},
        }
        for call in reply.calls
    ]


def _completion(head: Json, reply: Answer, call: Call) -> Json:
    content = None if reply.calls or reply.refused else reply.script.text
    message = {
        "role": "assistant",
        "content": content,
        "refusal": REFUSED if reply.refused else None,
        "tool_calls": _tool_calls(reply) or None,
    }
    choice = {"index": 0, "finish_reason": _finish(reply), "logprobs": None, "message": message}
    usage = {} if "nousage" in call.options else {"usage": _usage(reply.usage)}
    return {**head, "choices": [choice], **usage}


class _Stream:
    """The frames of one streamed completion; those of the text are glued, not serialised."""

    def __init__(self, head: Json, reply: Answer, call: Call, *, with_usage: bool) -> None:
        self._head = {**head, "object": "chat.completion.chunk"}
        self._reply = reply
        self._odd = "odd" in call.options
        self._with_usage = with_usage and "nousage" not in call.options
        self._null_usage: Json = {"usage": None} if with_usage else {}

    def frames(self) -> Frames:
        opening = self._chunk({"role": "assistant", "content": "", "refusal": None})
        closing = self._chunk({}, _finish(self._reply))
        if self._with_usage:
            usage = {"usage": _usage(self._reply.usage)}
            closing += data({**self._head, "choices": [], **usage})
        if self._odd:
            opening, closing = _COMMENT + opening, _COMMENT + closing
        return Frames(opening, self._middle(), closing + _DONE, chat_failure)

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return data({**self._head, "choices": [choice], **self._null_usage})

    def _middle(self) -> list[bytes]:
        if self._reply.calls:
            return self._tool_fragments()
        field = "refusal" if self._reply.refused else "content"
        before, after = self._chunk({field: "\0"}).split(quoted("\0"))
        if self._odd:
            after = after.replace(b"},", b',"obfuscation":"x7Qp"},', 1) + _COMMENT
        return [before + piece + after for piece in self._reply.script.quoted]

    def _tool_fragments(self) -> list[bytes]:
        chunks = []
        for index, call in enumerate(self._reply.calls):
            named = {"name": call.name, "arguments": ""}
            first = {"index": index, "id": new_id("call_"), "type": "function", "function": named}
            later = [{"index": index, "function": {"arguments": part}} for part in call.fragments()]
            chunks += [self._chunk({"tool_calls": [part]}) for part in (first, *later)]
        return chunks
