"""OpenAI: https://platform.openai.com/docs/api-reference

Plain turns go by Chat Completions. A turn with tools goes by Responses where its model takes none
otherwise, and so does one that gives the model its own reasoning back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.turn import Prompt
from services.chat.providers import _responses
from services.chat.providers._chat_completions import Dialect
from services.chat.providers._openai_errors import Refusals
from services.chat.providers._openai_models import ModelFacts, facts_of
from services.chat.providers._registry import chat_wires
from services.chat.providers._wire import Reader, Wire, WireRequest
from shared.errors import ExpectedFailure

_REFUSALS = Refusals("openai", "OpenAI")
_CHAT = Dialect(_REFUSALS, facts_of)


class OpenAI(Wire):
    """Translates to OpenAI's two wires and back."""

    name = "openai"
    capabilities = Capabilities()

    def request(self, prompt: Prompt, *, stream: bool) -> WireRequest:
        facts = facts_of(prompt.choice.model)
        if _needs_responses(prompt, facts):
            return _responses.request(prompt, facts, _REFUSALS, stream=stream)
        return _CHAT.request(prompt, stream=stream)

    def raw_reader(self, path: str, *, streamed: bool) -> Reader:
        if path.partition("?")[0] == _responses.PATH:
            return _responses.reader(_REFUSALS, streamed=streamed)
        return _CHAT.reader(streamed=streamed)

    def refusal(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> ExpectedFailure:
        return _REFUSALS.refusal(status, body, headers)


def _needs_responses(prompt: Prompt, facts: ModelFacts) -> bool:
    if not facts.efforts:
        return False
    with_tools = bool(prompt.tools) or any(u.tool_calls for u in prompt.utterances)
    return (with_tools and not facts.chat_tools) or bool(_responses.thoughts_of(prompt))


chat_wires.register("openai")(OpenAI())
