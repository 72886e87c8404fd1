"""Gemini's answers, piece by piece or whole: https://ai.google.dev/api/generate-content"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import orjson

from services.chat.domain.frames import (
    Began,
    Ended,
    FinishReason,
    Frame,
    Text,
    Thinking,
    ToolCallPiece,
)
from services.chat.domain.usage import Usage
from services.chat.providers._gemini_refusal import refusal
from services.chat.providers._reading import are_told, as_name, count, mapping, rows, said_in, text
from shared.errors import ExpectedFailure
from shared.vendors.failures import VendorFailed

_BLOCKED = (
    "SAFETY",
    "RECITATION",
    "PROHIBITED_CONTENT",
    "BLOCKLIST",
    "SPII",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
)
_FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "paused",
    **dict.fromkeys(_BLOCKED, "content_filter"),
}
# Words that say no more than our own do.
_PLAIN = {"STOP", "MAX_TOKENS", "CONTINUATION"}
_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
)
_NOT_YET = {"", "FINISH_REASON_UNSPECIFIED"}


class CallsMade:
    """How many tools were called by now, also over an answer that comes in several goes."""

    def __init__(self) -> None:
        self.number = 0


class ContentAnswer:
    """What the documents of a stream add up to, or the one of an answer that comes whole."""

    def __init__(self, calls: CallsMade | None = None) -> None:
        self._calls = calls or CallsMade()
        self._id: str | None = None
        self._began = False
        self._worked = False
        self._usage: dict[str, Any] = {}
        self._finish = ""
        self._block = ""
        self._ratings: Mapping[str, str] | None = None
        self._token: str | None = None

    def take(self, document: Mapping[str, Any]) -> Iterable[Frame]:
        if document.get("error"):
            raise self._failure(document)
        frames = [*self._beginning(document)]
        self._usage |= said_in(document.get("usageMetadata"))
        self._read_feedback(mapping(document.get("promptFeedback")))
        for candidate in rows(document.get("candidates")):
            if not candidate.get("index"):
                said = [*self._parts(candidate)]
                self._worked = self._worked or bool(said)
                frames += said
                self._read_end(candidate)
        return frames

    def end(self) -> Iterable[Frame]:
        if not self._finish and not self._block:
            raise VendorFailed("gemini")
        yield Ended(
            self._reason(),
            usage_from_wire(self._usage),
            ratings=self._ratings,
            continuation=self._token,
            why=self._block or (None if self._finish in _PLAIN else self._finish),
        )

    def _failure(self, document: Mapping[str, Any]) -> ExpectedFailure:
        # What has been generated is charged.
        return VendorFailed("gemini") if self._worked else refusal(500, document, {})

    def _beginning(self, document: Mapping[str, Any]) -> Iterator[Frame]:
        if not self._began:
            self._began = True
            self._id = as_name(document.get("responseId"))
            model = as_name(document.get("modelVersion"))
            # What was read is known from the beginning, and charged whoever leaves.
            yield Began(self._id, model, usage_from_wire(mapping(document.get("usageMetadata"))))

    def _read_feedback(self, feedback: Mapping[str, Any]) -> None:
        if block := text(feedback.get("blockReason")):
            self._block = block
            self._rate(feedback)

    def _parts(self, candidate: Mapping[str, Any]) -> Iterator[Frame]:
        for part in rows(mapping(candidate.get("content")).get("parts")):
            if said := text(part.get("text")):
                yield Thinking(said) if part.get("thought") is True else Text(said)
            if isinstance(part.get("functionCall"), dict):
                yield self._call(part)

    def _call(self, part: Mapping[str, Any]) -> ToolCallPiece:
        number = self._calls.number
        self._calls.number += 1
        call = mapping(part.get("functionCall"))
        return ToolCallPiece(
            number,
            text(call.get("id")) or f"call_{self._id or uuid4().hex}_{number}",
            text(call.get("name")),
            orjson.dumps(mapping(call.get("args"))).decode(),
            text(part.get("thoughtSignature")) or None,
        )

    def _read_end(self, candidate: Mapping[str, Any]) -> None:
        finish = text(candidate.get("finishReason"))
        if finish not in _NOT_YET:
            self._finish = finish
        self._token = text(candidate.get("continuationToken")) or self._token
        self._rate(candidate)

    def _rate(self, holder: Mapping[str, Any]) -> None:
        ratings = rows(holder.get("safetyRatings"))
        told = {text(row.get("category")): text(row.get("probability")) for row in ratings}
        self._ratings = told or self._ratings

    def _reason(self) -> FinishReason:
        if self._block:
            return "content_filter"
        # A call has no finish reason of its own.
        if self._finish == "STOP" and self._calls.number:
            return "tool_calls"
        return _FINISH.get(self._finish, "other")


def usage_from_wire(usage: Mapping[str, Any]) -> Usage | None:
    """Token counts; None when none were told. The vendor counts thoughts apart."""
    if not are_told(usage, *_COUNTS):
        return None
    prompt, fetched, said, thoughts = (count(usage.get(name)) for name in _COUNTS)
    told = Usage(
        input_tokens=prompt + fetched,
        cache_read_tokens=count(usage.get("cachedContentTokenCount")),
        output_tokens=said + thoughts,
        output_reasoning_tokens=thoughts,
    )
    return told if told.total_tokens else None
