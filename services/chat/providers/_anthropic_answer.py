"""Anthropic's answers, event by event or whole.

https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import orjson

from services.chat.domain.content import Thought
from services.chat.domain.frames import (
    Began,
    Ended,
    FinishReason,
    Frame,
    Text,
    Thinking,
    Thoughts,
    ToolCallPiece,
)
from services.chat.domain.usage import Usage
from services.chat.providers._anthropic_refusal import refusal
from services.chat.providers._reading import (
    are_told,
    as_name,
    count,
    mapping,
    rows,
    said_in,
    storable,
    text,
)
from shared.errors import ExpectedFailure
from shared.values import dataclass
from shared.vendors.failures import VendorFailed

_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "paused",
    "compaction": "stop",
}
_SAYING = ("text", "compaction")
# Words that say no more than our own do.
_PLAIN = {"end_turn", "max_tokens", "tool_use", "pause_turn"}
# Where a model may run that nobody told where to.
_ANYWHERE = {"", "global", "not_available"}

_COUNTS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
)


@dataclass(slots=True)
class _Block:
    """A content block that is being said; `call` is its number if it is a call of our tools."""

    started: Mapping[str, Any]
    call: int | None = None
    said_arguments: bool = False
    thinking: list[str] = field(default_factory=list)
    signature: str = ""


class MessageAnswer:
    """What the events of a message add up to, or the message if it comes whole."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._thoughts: list[Thought] = []
        self._usage: dict[str, Any] = {}
        self._stop: Mapping[str, Any] = {}
        self._worked = False
        self._ended = False

    def take(self, document: Mapping[str, Any]) -> Iterable[Frame]:
        # Pings say nothing, and new kinds of events may come within a version.
        read = _EVENTS.get(text(document.get("type")))
        frames = read(self, document) if read is not None else ()
        self._worked = self._worked or any(not isinstance(f, Began) for f in frames)
        return frames

    def end(self) -> Iterable[Frame]:
        if not self._ended:
            raise VendorFailed("anthropic")
        return ()

    def _begin(self, event: Mapping[str, Any]) -> Sequence[Frame]:
        return [self._began(mapping(event.get("message")))]

    def _began(self, message: Mapping[str, Any]) -> Began:
        self._count(message)
        id_, model = as_name(message.get("id")), as_name(message.get("model"))
        # What was read is known from the beginning, and charged whoever leaves.
        return Began(id_, model, usage_from_wire(self._usage))

    def _count(self, holder: Mapping[str, Any]) -> None:
        """Counts are cumulative: a later one takes the place of an earlier one."""
        self._usage |= said_in(holder.get("usage"))

    def _start_block(self, event: Mapping[str, Any]) -> Sequence[Frame]:
        block = _Block(mapping(event.get("content_block")))
        self._blocks[count(event.get("index"))] = block
        kind = block.started.get("type")
        if kind == "tool_use":
            return [self._call(block)]
        if kind in ("redacted_thinking", "compaction"):
            self._worked = True
        if kind == "thinking":
            return _thought(block, text(block.started.get("thinking")))
        # What a conversation was summed up to its client reads like an answer.
        said = text(block.started.get("content" if kind == "compaction" else "text"))
        return [Text(said)] if said and kind in _SAYING else ()

    def _call(self, block: _Block) -> ToolCallPiece:
        block.call = self._calls
        self._calls += 1
        identity = text(block.started.get("id")) or f"toolu_{block.call}"
        return ToolCallPiece(block.call, identity, text(block.started.get("name")))

    def _add_delta(self, event: Mapping[str, Any]) -> Sequence[Frame]:
        block = self._blocks.get(count(event.get("index")))
        delta = mapping(event.get("delta"))
        if said := text(delta.get("text")):
            return [Text(said)]
        if block is None:
            return ()
        if delta.get("type") == "compaction_delta" and (said := text(delta.get("content"))):
            return [Text(said)]
        if signature := text(delta.get("signature")):
            block.signature += signature
            self._worked = True
        if arguments := text(delta.get("partial_json")):
            return self._arguments(block, arguments)
        return _thought(block, text(delta.get("thinking")))

    def _arguments(self, block: _Block, piece: str) -> Sequence[Frame]:
        if block.call is None:
            return ()  # a tool of the vendor's own
        block.said_arguments = True
        return [ToolCallPiece(block.call, arguments=piece)]

    def _stop_block(self, event: Mapping[str, Any]) -> Sequence[Frame]:
        block = self._blocks.pop(count(event.get("index")), None)
        if block is None:
            return ()
        self._keep_thought(block)
        if block.call is None or block.said_arguments:
            return ()
        return self._arguments(block, _json(block.started.get("input")))

    def _keep_thought(self, block: _Block) -> None:
        kept = dict(block.started)
        if kept.get("type") == "thinking":
            kept["thinking"] = "".join(block.thinking)
            kept["signature"] = block.signature or text(kept.get("signature"))
        elif kept.get("type") != "redacted_thinking":
            return
        self._thoughts.append(Thought("anthropic", storable(kept)))

    def _change(self, event: Mapping[str, Any]) -> Sequence[Frame]:
        self._count(event)
        delta = mapping(event.get("delta"))
        if delta.get("stop_reason"):
            self._stop = delta
        return ()

    def _end(self, _event: Mapping[str, Any]) -> Sequence[Frame]:
        self._ended = True
        reason = text(self._stop.get("stop_reason"))
        thoughts = [Thoughts(tuple(self._thoughts))] if self._thoughts else []
        ended = Ended(_FINISH.get(reason, "other"), usage_from_wire(self._usage), why=self._why())
        return [*thoughts, ended]

    def _why(self) -> str | None:
        reason = text(self._stop.get("stop_reason"))
        if reason == "refusal":
            return text(mapping(self._stop.get("stop_details")).get("category")) or None
        return None if reason in _PLAIN else reason or None

    def _fail(self, event: Mapping[str, Any]) -> Sequence[Frame]:
        raise self._failure(event)

    def _failure(self, event: Mapping[str, Any]) -> ExpectedFailure:
        # What has been generated is charged.
        return VendorFailed("anthropic") if self._worked else refusal(500, event, {})

    def _whole(self, message: Mapping[str, Any]) -> Sequence[Frame]:
        if not message.get("stop_reason"):
            return ()
        frames: list[Frame] = [self._began(message)]
        for index, block in enumerate(rows(message.get("content"))):
            frames += self._start_block({"index": index, "content_block": block})
            frames += self._stop_block({"index": index})
        self._stop = message
        return [*frames, *self._end({})]


_EVENTS: Mapping[str, Callable[[MessageAnswer, Mapping[str, Any]], Sequence[Frame]]] = {
    "message_start": MessageAnswer._begin,
    "content_block_start": MessageAnswer._start_block,
    "content_block_delta": MessageAnswer._add_delta,
    "content_block_stop": MessageAnswer._stop_block,
    "message_delta": MessageAnswer._change,
    "message_stop": MessageAnswer._end,
    "error": MessageAnswer._fail,
    "message": MessageAnswer._whole,
}


def _thought(block: _Block, piece: str) -> Sequence[Frame]:
    if not piece:
        return ()
    block.thinking.append(piece)
    return [Thinking(piece)]


def _json(value: Any) -> str:
    return orjson.dumps(mapping(value)).decode()


def usage_from_wire(usage: Mapping[str, Any]) -> Usage | None:
    """Token counts; None when none were told. The vendor counts cached input apart, and so it does
    with what it took to sum up a conversation that had grown too long."""
    steps = rows(usage.get("iterations"))
    steps = [step for step in steps if step.get("type") == "compaction"]
    if not all(are_told(one, *_COUNTS) for one in (usage, *steps)):
        return None
    tier = _service_tier(usage)
    asides = [_counted(step, tier) for step in steps]
    counted = [_counted(usage, tier), *asides]
    told = replace(
        counted[0],
        input_tokens=sum(one.input_tokens for one in counted),
        cache_read_tokens=sum(one.cache_read_tokens for one in counted),
        cache_write_tokens=sum(one.cache_write_tokens for one in counted),
        output_tokens=sum(one.output_tokens for one in counted),
        output_reasoning_tokens=count(
            mapping(usage.get("output_tokens_details")).get("thinking_tokens")
        ),
        asides=tuple(asides),
    )
    return told if told.total_tokens else None


def _service_tier(usage: Mapping[str, Any]) -> str | None:
    """How fast it was and, where it had to be one, in which part of the world: both have prices."""
    speed, place = text(usage.get("speed")), text(usage.get("inference_geo"))
    return as_name(speed if place in _ANYWHERE else f"{speed or 'standard'}/{place}")


def _counted(counts: Mapping[str, Any], tier: str | None) -> Usage:
    plain, read, written, output = (count(counts.get(name)) for name in _COUNTS)
    return Usage(
        input_tokens=plain + written + read,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        service_tier=tier,
    )
