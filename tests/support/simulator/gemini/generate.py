"""generateContent, streamGenerateContent and countTokens."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.answers import (
    IMAGE_TOKENS,
    THOUGHT,
    TOOL_TOKENS,
    Answer,
    Ask,
    Script,
    answer,
    count_tokens,
)
from tests.support.simulator.call import Call
from tests.support.simulator.delivery import Frames, stream, whole
from tests.support.simulator.gemini.errors import failure
from tests.support.simulator.gemini.fields import pick
from tests.support.simulator.gemini.models import Model, find_model
from tests.support.simulator.gemini.rules import (
    check_content,
    check_contents,
    signature_of,
    signatures_in,
)
from tests.support.simulator.ids import new_id
from tests.support.simulator.tools import Tool
from tests.support.simulator.wire import EVENT_STREAM, JSON, dump, quoted

Json = dict[str, Any]

_FINISH: Final = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}
_CHOICES: Final = {"ANY": "required", "NONE": "none"}


async def content(call: Call) -> web.StreamResponse:
    draft = await _prepare(call)
    return await whole(call, dump(draft.whole()), JSON)


async def content_stream(call: Call) -> web.StreamResponse:
    """Without `alt=sse` the same objects come as one JSON array."""
    draft = await _prepare(call)
    if call.request.query.get("alt") == "sse":
        return await stream(call, _as_events(draft), EVENT_STREAM)
    return await stream(call, _as_array(draft), JSON)


async def count(call: Call) -> web.StreamResponse:
    find_model(call)
    body = await call.json()
    body = pick(body, "generateContentRequest") or body
    check_contents(body.get("contents"))
    counted = {"totalTokens": _tokens_in(body), "cachedContentTokenCount": 0}
    return await whole(call, dump(counted), JSON)


async def _prepare(call: Call) -> "_Draft":
    model, body = find_model(call), call.body
    check_content(model, body)
    text, from_tool = _last_words(body["contents"])
    said, directives = call.listen(text)
    await call.obey(directives)
    reply = answer(_read(body, said, from_tool), call.options)
    if "block" in call.options:
        # Nothing is generated for a blocked prompt.
        reply = replace(reply, usage=replace(reply.usage, visible=0, reasoning=0))
    draft = _Draft(model, _this_hop(reply, body, call), call, body)
    reply = draft.reply
    call.promise(draft.id, reply.usage.canonical(), reply.usage_after)
    call.brought_back(signatures_in(body["contents"]))
    return draft


def _last_words(contents: list[Json]) -> tuple[str, bool]:
    for turn in reversed(contents):
        if turn.get("role", "user") == "user":
            text = _text_of(turn)
            results = _results_of(turn)
            return (results, True) if results and not text else (text, False)
    return "", False


def _text_of(turn: Json) -> str:
    return " ".join(str(part["text"]) for part in turn.get("parts") or () if part.get("text"))


def _results_of(turn: Json) -> str:
    parts = [pick(part, "functionResponse") for part in turn.get("parts") or ()]
    return " ".join(_result_of(part.get("response") or {}) for part in parts if part)


def _result_of(response: Json) -> str:
    output = response.get("output", response.get("result", response))
    return output if isinstance(output, str) else dump(output).decode()


def _read(body: Json, said: str, from_tool: bool) -> Ask:
    config = pick(body, "generationConfig") or {}
    return Ask(
        said=said,
        input_tokens=_tokens_in(body),
        from_tool=from_tool,
        cap=pick(config, "maxOutputTokens"),
        stops=tuple(pick(config, "stopSequences") or ()),
        tools=tuple(_tools(body)),
        choice=_choice(body),
        wants_json=pick(config, "responseMimeType") == "application/json",
        schema=pick(config, "responseJsonSchema") or pick(config, "responseSchema"),
    )


def _tools(body: Json) -> Iterator[Tool]:
    for group in body.get("tools") or ():
        for declared in pick(group, "functionDeclarations") or ():
            schema = pick(declared, "parametersJsonSchema") or declared.get("parameters") or {}
            yield Tool(declared["name"], schema)


def _choice(body: Json) -> str:
    config = pick(pick(body, "toolConfig") or {}, "functionCallingConfig") or {}
    allowed = pick(config, "allowedFunctionNames") or ()
    choice = _CHOICES.get(config.get("mode", "AUTO"), "auto")
    return str(allowed[0]) if choice == "required" and allowed else choice


def _tokens_in(body: Json) -> int:
    instruction = pick(body, "systemInstruction") or {}
    tokens = count_tokens(_text_of(instruction)) + TOOL_TOKENS * len(list(_tools(body)))
    for turn in body["contents"]:
        tokens += count_tokens(_text_of(turn)) + count_tokens(_results_of(turn))
        for part in turn["parts"]:
            if pick(part, "inlineData") or pick(part, "fileData"):
                tokens += IMAGE_TOKENS
            elif call := pick(part, "functionCall"):
                tokens += 1 + count_tokens(dump(call.get("args")).decode())
    return tokens


def _this_hop(reply: Answer, body: Json, call: Call) -> Answer:
    """The part of the answer that belongs to this request, when it is spread over several.

    The token says which part is next, so nothing has to be remembered between requests.
    """
    hops = call.options.number("continuation")
    if not hops or reply.calls:
        return reply
    hop = _hop_of(pick(body, "continuationToken"), call)
    script = reply.script.part(hop, hops + 1)
    finish = reply.finish if hop >= hops else f"CONTINUATION {hop + 1}"
    usage = replace(reply.usage, visible=call.options.number("output", script.tokens))
    return replace(reply, script=script, finish=finish, usage=usage)


def _hop_of(token: str | None, call: Call) -> int:
    if token is None:
        return 0
    try:
        return int(b64decode(token).removeprefix(b"hop "))
    except ValueError:
        raise call.refused(400, "Invalid continuation token.") from None


class _Draft:
    """One response, whole or in the chunks of a stream."""

    def __init__(self, model: Model, reply: Answer, call: Call, body: Json) -> None:
        self.id = new_id("sim")
        self.reply = reply
        self._blocked = call.options.get("block")
        self._with_usage = "nousage" not in call.options
        self._tail = {"modelVersion": model.version, "responseId": self.id}
        config = pick(body, "generationConfig") or {}
        thinking = pick(config, "thinkingConfig") or {}
        self._shows_thoughts = reply.thinks and pick(thinking, "includeThoughts") is True

    def whole(self) -> Json:
        if self._blocked:
            return self._block()
        parts = [{"text": THOUGHT, "thought": True}] if self._shows_thoughts else []
        parts += self._call_parts()
        if self.reply.script.text:
            parts.append({"text": self.reply.script.text})
        return self._chunk(self._last(parts), self.reply.usage.visible)

    def thoughts(self) -> list[bytes]:
        if not self._shows_thoughts or self._blocked:
            return []
        return [self._part_chunk({"text": THOUGHT, "thought": True})]

    def chunks(self) -> list[bytes]:
        if self._blocked:
            return []
        return [self._part_chunk(part) for part in self._call_parts()] or self._text_chunks()

    def last_chunk(self) -> bytes:
        """Brings the finish reason and no text."""
        if self._blocked:
            return dump(self._block())
        last = self._last([{"text": ""}])
        return dump(self._chunk(last, self.reply.usage.visible))

    def _block(self) -> Json:
        usage = self.reply.usage
        counts = {"promptTokenCount": usage.input, "totalTokenCount": usage.input}
        feedback: Json = {"blockReason": self._blocked, "safetyRatings": []}
        return {"promptFeedback": feedback, "usageMetadata": counts, **self._tail}

    def _call_parts(self) -> list[Json]:
        """Of several calls the first one alone is signed."""
        parts: list[Json] = [
            {"functionCall": {"id": new_id("fc"), "name": call.name, "args": call.arguments}}
            for call in self.reply.calls
        ]
        for part in parts[:1]:
            part["thoughtSignature"] = signature_of(part["functionCall"]["id"])
        return parts

    def _last(self, parts: list[Json]) -> Json:
        word, _, hop = self.reply.finish.partition(" ")
        finish = "SAFETY" if self.reply.refused else _FINISH.get(word, word)
        candidate: Json = {"index": 0, "finishReason": finish, "safetyRatings": _RATINGS}
        if hop:
            candidate["continuationToken"] = b64encode(b"hop " + hop.encode()).decode()
        if finish != "SAFETY":
            candidate["content"] = {"role": "model", "parts": parts}
        return candidate

    def _part_chunk(self, part: Json) -> bytes:
        content = {"role": "model", "parts": [part]}
        return dump(self._chunk({"index": 0, "content": content}, 0))

    def _text_chunks(self) -> list[bytes]:
        """Counts rise from chunk to chunk; only they and the words are put in anew."""
        if self.reply.refused:
            return []
        template = self._part_chunk({"text": "\0"})
        before, _, rest = template.partition(quoted("\0"))
        tokens = _running_counts(self.reply.script)
        if not self._with_usage:
            return [before + piece + rest for piece in self.reply.script.quoted]
        start, middle, end = self._around_counts(rest)
        total = self.reply.usage.input + self.reply.usage.reasoning
        return [
            before + piece + start + b"%d" % here + middle + b"%d" % (total + here) + end
            for piece, here in zip(self.reply.script.quoted, tokens, strict=True)
        ]

    def _around_counts(self, rest: bytes) -> tuple[bytes, bytes, bytes]:
        mark = b'"candidatesTokenCount":'
        start, _, rest = rest.partition(mark)
        first_end = rest.index(b",")
        mark_total = b'"totalTokenCount":'
        middle, _, after = rest[first_end:].partition(mark_total)
        return start + mark, middle + mark_total, after.lstrip(b"0123456789")

    def _chunk(self, candidate: Json, visible: int) -> Json:
        usage = {"usageMetadata": self._usage(visible)} if self._with_usage else {}
        return {"candidates": [candidate], **usage, **self._tail}

    def _usage(self, visible: int) -> Json:
        usage = self.reply.usage
        return {
            "promptTokenCount": usage.input,
            "cachedContentTokenCount": usage.cache_read,
            "candidatesTokenCount": visible,
            "thoughtsTokenCount": usage.reasoning,
            "toolUsePromptTokenCount": 0,
            "totalTokenCount": usage.input + visible + usage.reasoning,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
        }


_RATINGS: Final = [
    {"category": f"HARM_CATEGORY_{name}", "probability": "NEGLIGIBLE"}
    for name in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
]


def _running_counts(script: Script) -> list[int]:
    counts, total = [], 0
    for piece in script.pieces:
        total += count_tokens(piece)
        counts.append(total)
    return counts


def _as_events(draft: _Draft) -> Frames:
    """Frames end with CRLF, and there is neither an event name nor an end mark."""
    opening, middle, closing = (
        [b"data: " + chunk + b"\r\n\r\n" for chunk in chunks]
        for chunks in (draft.thoughts(), draft.chunks(), [draft.last_chunk()])
    )
    return Frames(b"".join(opening), middle, b"".join(closing), failure)


def _as_array(draft: _Draft) -> Frames:
    opening, middle = (
        [chunk + b",\r\n" for chunk in chunks] for chunks in (draft.thoughts(), draft.chunks())
    )
    return Frames(b"[" + b"".join(opening), middle, draft.last_chunk() + b"]", failure)
