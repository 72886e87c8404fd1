"""Put together what the vendor is asked, and what is written of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID

from services.chat.domain.content import Role, ToolResult, Utterance, asked_as
from services.chat.domain.context_window import (
    Window,
    coherent,
    fitted,
    tokens_beside,
    window_of,
    without_images,
    without_tools,
)
from services.chat.domain.conversation import MessageId, name_from
from services.chat.domain.errors import (
    MessageNotFound,
    NotAQuestion,
    ToolResultsUnexpected,
)
from services.chat.domain.features import (
    IMAGES,
    TOOLS,
    long_contexts,
    require_capabilities,
    require_effort,
    require_features,
)
from services.chat.domain.images import check_sizes
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.ports import Asked, AskedBefore, Beginning, ChatProvider
from services.chat.domain.question import Question
from services.chat.domain.turn import Prompt
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier
from shared.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Composed:
    """A question, ready: for the vendor, and for the storage. `question_id` is that of a question
    which is there already; `left_out` tells how many messages of before don't go along."""

    prompt: Prompt
    asked: Asked
    question_id: MessageId | None
    left_out: int


@dataclass(frozen=True, slots=True)
class ComposePrompt:
    """What goes to the vendor, by tier, provider and model."""

    providers: Mapping[str, ChatProvider]
    catalogue: ModelCatalogue
    history_tokens: int
    image_bytes: int = 5 << 20

    def __call__(
        self, question: Question, tier: Tier, choice: ModelChoice, beginning: Beginning
    ) -> Composed:
        """Raises BadAttachment, MessageNotFound, NotAQuestion, ToolResultsUnexpected,
        FeatureNotInTier, CapabilityMissing or QuestionTooLong."""
        check_sizes(question.images or (), self.image_bytes)
        asked = _asked(question, beginning)
        now = asked_as(asked.content, asked.images, asked.tool_results)
        require_effort(tier, choice.provider, question.effort)
        prompt = Prompt(
            choice=choice,
            system_prompt=beginning.session.system_prompt,
            utterances=now,
            end_user=opaque(question.user_id),
            tools=question.tools,
            tool_choice=question.tool_choice,
            temperature=question.temperature,
            has_usual_temperature=True,
            effort=question.effort,
            answer_format=question.answer_format,
        )
        require_features(prompt, tier)
        require_capabilities(prompt, self.providers[choice.provider].capabilities)
        history = self._shown(beginning.history, tier, choice.provider)
        kept = fitted(
            coherent([*history, *now]), self._window(tier, choice), beside=tokens_beside(prompt)
        )
        return Composed(
            prompt=replace(prompt, utterances=kept.utterances),
            asked=asked,
            question_id=asked_before.id if (asked_before := _again(question, beginning)) else None,
            left_out=kept.left_out,
        )

    def _window(self, tier: Tier, choice: ModelChoice) -> Window:
        allowance = tier.allowance(choice.provider)
        long = long_contexts(tier).get(choice.provider, 0)
        return window_of(
            model_context=self.catalogue.context_of(choice.model),
            tier_context=allowance.context_tokens if allowance else 0,
            max_output_tokens=choice.max_output_tokens,
            history_tokens=max(self.history_tokens, long),
        )

    def _shown(
        self, history: Sequence[Utterance], tier: Tier, provider: str
    ) -> Sequence[Utterance]:
        """What was said with another provider or tier, as this one can take it."""
        can = self.providers[provider].capabilities
        if not (can.images and tier.allows(provider, IMAGES)):
            history = without_images(history)
        if not (can.tools and tier.allows(provider, TOOLS)):
            history = without_tools(history)
        return history


def _asked(question: Question, beginning: Beginning) -> Asked:
    before = beginning.asked_before
    if question.at is None:
        return Asked(
            question.content,
            tool_results=_named(question.tool_results, beginning.history),
            images=tuple(question.images or ()),
            parent_id=beginning.tip_id,
            session_name=name_from(question.content) if beginning.session.has_no_name else None,
        )
    if before is None:
        raise MessageNotFound(question.at)
    if question.answers_again is not None:
        return Asked(before.content, before.tool_results, before.images, answers_again=True)
    if before.id != question.edits or before.role is not Role.USER:
        raise NotAQuestion(question.at)
    images = before.images if question.images is None else question.images
    return Asked(question.content, images=tuple(images), parent_id=before.parent_id, branches=True)


def _again(question: Question, beginning: Beginning) -> AskedBefore | None:
    return beginning.asked_before if question.answers_again is not None else None


def _named(results: Sequence[ToolResult], history: Sequence[Utterance]) -> Sequence[ToolResult]:
    """The results, each with the name of the tool that was called."""
    if not results:
        return ()
    calls = {call.id: call.name for call in history[-1].tool_calls} if history else {}
    if sorted(result.call_id for result in results) != sorted(calls):
        raise ToolResultsUnexpected(sorted(calls))
    return tuple(replace(result, name=calls[result.call_id]) for result in results)


def opaque(user_id: UUID) -> str:
    """An id of the user that tells a vendor nothing, for its abuse detection."""
    return hashlib.sha256(b"companion.end-user" + user_id.bytes).hexdigest()[:32]
