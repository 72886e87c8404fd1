"""Anthropic's Messages: https://docs.anthropic.com/en/api/messages"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.turn import Prompt
from services.chat.providers._anthropic_answer import MessageAnswer
from services.chat.providers._anthropic_refusal import refusal
from services.chat.providers._anthropic_request import to_wire
from services.chat.providers._reading import DocumentReader, WholeBody
from services.chat.providers._registry import chat_wires
from services.chat.providers._sse import DataLines
from services.chat.providers._wire import Reader, Wire, WireRequest
from shared.errors import ExpectedFailure

_PATH = "/v1/messages"


class Anthropic(Wire):
    """Translates to Anthropic's wire and back.

    No tools of the vendor's own are offered, and only for those it pauses a turn: such an end is
    told as it is and not continued.
    """

    name = "anthropic"
    capabilities = Capabilities()

    def request(self, prompt: Prompt, *, stream: bool) -> WireRequest:
        body, headers = to_wire(prompt, stream=stream)
        return WireRequest(_PATH, body, stream_reader if stream else whole_reader, headers)

    def raw_reader(
        self,
        path: str,  # noqa: ARG002 - only one of its calls generates anything
        *,
        streamed: bool,
    ) -> Reader:
        return stream_reader() if streamed else whole_reader()

    def refusal(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> ExpectedFailure:
        return refusal(status, body, headers)


def stream_reader() -> Reader:
    """For an answer in server-sent events."""
    return DocumentReader("anthropic", DataLines("anthropic"), MessageAnswer())


def whole_reader() -> Reader:
    """For an answer in one piece."""
    return DocumentReader("anthropic", WholeBody("anthropic"), MessageAnswer())


chat_wires.register("anthropic")(Anthropic())
