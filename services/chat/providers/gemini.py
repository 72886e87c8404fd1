"""Gemini's generateContent: https://ai.google.dev/api/generate-content"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from services.chat.domain.capabilities import Capabilities, OnLeaving
from services.chat.domain.errors import ModelUnavailable
from services.chat.domain.frames import Ended
from services.chat.domain.turn import Prompt
from services.chat.providers._gemini_answer import CallsMade, ContentAnswer
from services.chat.providers._gemini_framing import Documents
from services.chat.providers._gemini_refusal import refusal
from services.chat.providers._gemini_request import to_wire
from services.chat.providers._reading import DocumentReader, WholeBody
from services.chat.providers._registry import chat_wires
from services.chat.providers._wire import Reader, Wire, WireRequest
from shared.errors import ExpectedFailure

# A model's id becomes part of the path and must not lead to another one.
_MODEL = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]*")


class Gemini(Wire):
    """Translates to Gemini's wire and back."""

    name = "gemini"
    # Gemini's documentation does not say that a call which its client leaves is charged no further.
    capabilities = Capabilities(on_leaving=OnLeaving.DRAIN)

    def request(self, prompt: Prompt, *, stream: bool) -> WireRequest:
        path = _path(prompt.choice.model, stream=stream)
        # Shared by the readers of an answer that comes in several goes.
        calls = CallsMade()
        return WireRequest(
            path, to_wire(prompt), partial(stream_reader if stream else whole_reader, calls)
        )

    def raw_reader(
        self,
        path: str,  # noqa: ARG002 - a stream's form, with or without `alt=sse`, shows of itself
        *,
        streamed: bool,
    ) -> Reader:
        return stream_reader() if streamed else whole_reader()

    def refusal(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> ExpectedFailure:
        return refusal(status, body, headers)

    def continued(self, request: WireRequest, ended: Ended) -> WireRequest | None:
        if ended.continuation is None:
            return None
        return replace(request, body={**request.body, "continuationToken": ended.continuation})


def stream_reader(calls: CallsMade | None = None) -> Reader:
    """For an answer in whichever form a stream comes."""
    return DocumentReader("gemini", Documents(), ContentAnswer(calls))


def whole_reader(calls: CallsMade | None = None) -> Reader:
    """For an answer in one piece."""
    return DocumentReader("gemini", WholeBody("gemini"), ContentAnswer(calls))


def _path(model: str, *, stream: bool) -> str:
    name = model.removeprefix("models/")
    if not _MODEL.fullmatch(name):
        raise ModelUnavailable(
            "Gemini has no model of such a name.", provider="gemini", again=False
        )
    # The moving aliases exist in the preview of the API alone.
    version = "v1beta" if name.endswith("-latest") else "v1"
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/{version}/models/{name}:{verb}"


chat_wires.register("gemini")(Gemini())
