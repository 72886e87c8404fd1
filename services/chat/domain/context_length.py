"""Whether a prompt that must not be cut fits into the model's context.

Vendors count as they like, and only they know how. So what certainly is too long for the model is
refused here, before anything is admitted or charged; what may fit is for the vendor to say. What
the tier grants no vendor knows: that is counted as for a chat session.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.chat.domain.context_window import require_room, window_of
from services.chat.domain.errors import QuestionTooLong
from services.chat.domain.token_count import MOST_BYTES_PER_TOKEN, most_tokens
from services.chat.domain.turn import Prompt


def require_context(prompt: Prompt, *, model_context: int, tier_context: int) -> None:
    """What the model reads, and what the tier grants; a tier that says nothing of context (0)
    grants the model's. Raises QuestionTooLong."""
    most = min(model_context, tier_context or model_context)
    least = sum(map(most_tokens, _texts(prompt))) // MOST_BYTES_PER_TOKEN
    if least > most:
        raise QuestionTooLong(least, most)
    if tier_context:
        window = window_of(
            model_context=tier_context,
            tier_context=tier_context,
            max_output_tokens=prompt.choice.max_output_tokens,
            history_tokens=0,
        )
        require_room(prompt, window)


def _texts(prompt: Prompt) -> Iterator[str]:
    yield prompt.system_prompt or ""
    for utterance in prompt.utterances:
        yield utterance.content
        yield from (call.arguments for call in utterance.tool_calls)
        yield from (result.content for result in utterance.tool_results)
