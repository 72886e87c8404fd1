"""An operator's own server that speaks OpenAI's Chat Completions: llama.cpp, vLLM, Ollama.

What such servers have in common is an older form of the wire: they know `max_tokens` and the role
`system`, all of them take a temperature and stop sequences, and what a model does not have its
server ignores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import ImagePart, Role, TextPart, Utterance
from services.chat.domain.errors import VendorRejectedRequest
from services.chat.domain.turn import Prompt
from services.chat.providers._chat_completions import Dialect
from services.chat.providers._openai_errors import Refusals
from services.chat.providers._openai_models import ModelFacts, Sampling
from services.chat.providers._registry import chat_wires
from services.chat.providers._wire import Reader, Wire, WireRequest
from shared.errors import ExpectedFailure
from shared.tiers import COMPATIBLE

_REFUSALS = Refusals(COMPATIBLE, "This server", users_key=False)
_FACTS = ModelFacts(("low", "medium", "high"), Sampling.ALWAYS, stop=True)


_NOT_SHOWN = TextPart("[an image that can't be shown here]")


def _facts_of(_model: str) -> ModelFacts:
    return _FACTS


_CHAT = Dialect(_REFUSALS, _facts_of, system_role="system", cap="max_tokens", tells_user=False)


class Compatible(Wire):
    """Translates to the common wire and back."""

    name = COMPATIBLE
    capabilities = Capabilities(image_urls=False)

    def request(self, prompt: Prompt, *, stream: bool) -> WireRequest:
        """Raises VendorRejectedRequest when the question has an image that the server would have to
        fetch: it stands in the operator's network, where a user's URL could lead to anything."""
        questions = [u for u in prompt.utterances if u.role is Role.USER]
        if questions and _is_by_url(questions[-1].images):
            raise VendorRejectedRequest(
                "This server takes images by their bytes alone.", provider=self.name
            )
        seen = [_without_urls(utterance) for utterance in prompt.utterances]
        return _CHAT.request(replace(prompt, utterances=seen), stream=stream)

    def raw_reader(
        self,
        path: str,  # noqa: ARG002 - there is but one
        *,
        streamed: bool,
    ) -> Reader:
        return _CHAT.reader(streamed=streamed)

    def refusal(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> ExpectedFailure:
        return _REFUSALS.refusal(status, body, headers)


def _is_by_url(images: Sequence[ImagePart]) -> bool:
    return any(image.data is None for image in images)


def _without_urls(utterance: Utterance) -> Utterance:
    """What was shown to another provider earlier is named where it stood."""
    if not _is_by_url(utterance.images):
        return utterance
    parts = [
        _NOT_SHOWN if isinstance(part, ImagePart) and part.data is None else part
        for part in utterance.parts
    ]
    return replace(utterance, parts=parts)


chat_wires.register(COMPATIBLE)(Compatible())
