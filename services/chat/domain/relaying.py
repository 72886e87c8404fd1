"""What is decided about a relayed call, and what its answer adds up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from services.chat.domain.content import ToolCall
from services.chat.domain.context_window import window_of
from services.chat.domain.errors import QuestionTooLong
from services.chat.domain.features import require_each
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.model_choice import ModelChoice, choose_known_model
from services.chat.domain.relayed import ClientCall
from services.chat.domain.turn import Hold, Outcome, Settlement, outcome_of
from services.chat.domain.usage import Usage, estimated_usage, letters_of
from shared.errors import ExpectedFailure
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier
from shared.vendors.failures import VendorFailed


def governed_choice(call: ClientCall, tier: Tier, catalogue: ModelCatalogue) -> ModelChoice:
    """The model that the call names, with the smaller of its own cap and the tier's.

    Raises ModelNotFound, NotInTier, or QuestionTooLong for more than the tier lets one call carry.
    """
    choice = relayed_model(call, tier, catalogue)
    require_each(tier, call.provider, call.features)
    most = choice.max_output_tokens
    if call.max_output_tokens is not None:
        most = min(most, call.max_output_tokens)
    choice = replace(choice, max_output_tokens=most)
    room = room_of(choice, tier, catalogue)
    if call.input_estimate > room:
        raise QuestionTooLong(call.input_estimate, room)
    return choice


def room_of(choice: ModelChoice, tier: Tier, catalogue: ModelCatalogue) -> int:
    """Of how many tokens the tier lets a prompt be, beside the longest answer."""
    allowance = tier.allowance(choice.provider)
    window = window_of(
        model_context=catalogue.context_of(choice.model),
        tier_context=allowance.context_tokens if allowance else 0,
        max_output_tokens=choice.max_output_tokens,
        history_tokens=0,
    )
    return window.prompt_tokens


def relayed_model(call: ClientCall, tier: Tier, catalogue: ModelCatalogue) -> ModelChoice:
    """The model that the call names. Raises what `choose_known_model` does."""
    return choose_known_model(tier, call.provider, call.model, catalogue)


class Heard:
    """What has been heard of one answer. `service_tier`: the one that it was asked at, which holds
    until the vendor tells another."""

    def __init__(self, service_tier: str | None = None) -> None:
        # Nobody listens any more: what comes now is read for its usage alone.
        self.is_unheard = False
        # Once the vendor may have heard of the call, it may charge for it.
        self.is_asked = False
        self.letters = self._thought_letters = 0
        self.provider_request_id: str | None = None
        self._model: str | None = None
        self._text: list[str] = []
        self._calls = 0
        self._shows_thinking = False
        self._told = Usage(service_tier=service_tier) if service_tier else None
        self._ended: Ended | None = None

    @property
    def is_whole(self) -> bool:
        return self._ended is not None

    @property
    def has_worked(self) -> bool:
        """Whether the vendor has thought, said or called anything."""
        return self.letters > 0 or self._calls > 0

    @property
    def why(self) -> str | None:
        """The vendor's own word for the reason why it ended."""
        return self._ended.told_why if self._ended is not None else None

    def take(self, frames: Iterable[Frame]) -> None:
        """Add what came next."""
        for frame in frames:
            if isinstance(frame, Text):
                if not self.is_unheard:
                    self._text.append(frame.text)
                self.letters += letters_of(frame.text)
            elif isinstance(frame, Thinking):
                self._shows_thinking = self._shows_thinking or not self.is_unheard
                letters = letters_of(frame.text)
                self.letters += letters
                self._thought_letters += letters
            elif isinstance(frame, ToolCallPiece):
                if not self.is_unheard:
                    self._calls = max(self._calls, frame.index + 1)
                self.letters += letters_of(frame.arguments)
            elif isinstance(frame, Began):
                self.provider_request_id = frame.provider_request_id
                self._model, self._told = frame.model, frame.usage or self._told
            elif isinstance(frame, Ended):
                self._ended = frame

    def settlement(
        self,
        hold: Hold,
        failure: ExpectedFailure | None,
        *,
        max_output_tokens: int,
        ended_as: Outcome | None,
        elapsed_ms: int,
    ) -> Settlement:
        """The terminal record of it. That tools were called is kept, not what they were asked."""
        ended, usage = self._ended, self._ended.usage if self._ended else None
        outcome = self._outcome(failure, ended_as)
        return Settlement(
            outcome=outcome,
            text="".join(self._text),
            usage=usage or self._estimated(hold, max_output_tokens),
            provider=hold.provider,
            model=self._model or hold.model,
            provider_request_id=self.provider_request_id,
            processing_time_ms=elapsed_ms,
            finish_reason=ended.reason if ended else (ended_as or Outcome.PROVIDER_FAILED).value,
            tool_calls=tuple(ToolCall("", "", "") for _ in range(self._calls)),
            shows_more=self._shows_thinking or (outcome is Outcome.DONE and _says(usage)),
        )

    def _estimated(self, hold: Hold, max_output_tokens: int) -> Usage:
        if not self.is_asked:
            return Usage(source="counted")
        return estimated_usage(
            hold.input_estimate,
            self.letters,
            self._told,
            thought_letters=self._thought_letters,
            max_output_tokens=max_output_tokens,
        )

    def _outcome(self, failure: ExpectedFailure | None, ended_as: Outcome | None) -> Outcome:
        has_content = bool(self._text or self._calls)
        if failure is not None:
            # Only a vendor that may have worked can charge; a refusal, ours or theirs, is free.
            billed = isinstance(failure, VendorFailed) and failure.billed
            return Outcome.PROVIDER_FAILED if billed or self.has_worked else Outcome.REFUSED
        if self._ended is None or self.is_unheard:
            return ended_as or Outcome.PROVIDER_FAILED
        return outcome_of(self._ended, has_content=has_content)


def _says(usage: Usage | None) -> bool:
    """Whether a whole answer has more in it than thinking: also what none of our frames tells."""
    return usage is not None and usage.output_tokens > usage.output_reasoning_tokens
