"""A turn: a question, the hold on a paid call, and exactly one terminal record of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID, uuid5

from services.chat.domain.content import (
    AnswerFormat,
    Effort,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    Utterance,
)
from services.chat.domain.conversation import MessageId, MessageStatus, SessionId
from services.chat.domain.frames import Ended
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.usage import Usage, estimated_input, letters_of
from shared.ids import EventId, UserId
from shared.values import dataclass

TurnId = NewType("TurnId", UUID)

# It reaches models that take one; most of today's don't.
_USUAL_TEMPERATURES = {"openai": 0.7}


class Outcome(StrEnum):
    """How a turn ended. `refused`: the vendor declined before any work, so nothing was used.
    `content_blocked`: the vendor's safety filters let nothing through; looking may cost."""

    DONE = "done"
    CONTENT_BLOCKED = "content_blocked"
    STOPPED = "stopped"
    CLIENT_GONE = "client_gone"
    PROVIDER_FAILED = "provider_failed"
    REPLICA_LOST = "replica_lost"
    REFUSED = "refused"

    @property
    def answer_status(self) -> MessageStatus:
        return MessageStatus.DONE if self is Outcome.DONE else MessageStatus.INTERRUPTED


def outcome_of(ended: Ended, *, has_content: bool) -> Outcome:
    """What an answer came to that the vendor ended."""
    if has_content:
        return Outcome.DONE
    if ended.reason == "content_filter":
        return Outcome.CONTENT_BLOCKED
    # It went wrong at the vendor, which says so in a word of its own and is paid for it.
    return Outcome.PROVIDER_FAILED if ended.reason == "other" else Outcome.DONE


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the vendor is asked. What a model does not take (see Capabilities) its provider leaves
    out: sampling and effort are wishes."""

    choice: ModelChoice
    system_prompt: str | None
    utterances: Sequence[Utterance]
    end_user: str  # an opaque id of the user, for the vendor's abuse detection
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    # Whether, where none is wished, the one goes along that the specification has for the provider.
    has_usual_temperature: bool = False
    top_p: float | None = None
    stop: Sequence[str] = ()
    effort: Effort | None = None
    answer_format: AnswerFormat | None = None

    @property
    def asked_temperature(self) -> float | None:
        """The one for whoever answers."""
        if self.temperature is not None or not self.has_usual_temperature:
            return self.temperature
        return _USUAL_TEMPERATURES.get(self.choice.provider)

    @property
    def input_estimate(self) -> int:
        """About how many tokens the vendor will count as input."""
        return estimated_input(
            letters_of(self.system_prompt or "") + _letters_of_all(self.utterances),
            len(self.utterances) + (1 if self.system_prompt else 0),
            images=sum([len(u.images) for u in self.utterances if u.parts]),
            tool_letters=sum(map(_size_of, self.tools)) + _letters_of_schema(self.answer_format),
        )


def _letters_of_all(utterances: Sequence[Utterance]) -> int:
    letters = 0
    for one in utterances:
        # As nearly always it is a text alone, and of these there may be a hundred.
        if one.parts or one.tool_calls or one.tool_results or one.thoughts:
            letters += _letters(one)
        else:
            text = one.content
            letters += len(text) if text.isascii() else letters_of(text)
    return letters


def _letters(utterance: Utterance) -> int:
    calls = sum(len(call.name) + letters_of(call.arguments) for call in utterance.tool_calls)
    results = sum(letters_of(result.content) for result in utterance.tool_results)
    return letters_of(utterance.content) + calls + results


def _letters_of_schema(form: AnswerFormat | None) -> int:
    return letters_of(str(form.schema)) if form is not None and form.schema else 0


def _size_of(tool: Tool) -> int:
    described = letters_of(tool.description or "")
    return len(tool.name) + described + letters_of(str(tool.parameters or ""))


class Surface(StrEnum):
    """The door that a turn came through: a chat session, the interface over all vendors, or that of
    one vendor."""

    SESSION = "session"
    V1 = "v1"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


@dataclass(frozen=True, slots=True)
class Hold:
    """Written before the vendor is called. Its event id is the usage's identity: whoever settles
    it, and however often, the ledger sees one entry. Without a session nothing of the conversation
    is kept: it came through a door for SDKs."""

    id: TurnId
    user_id: UserId
    session_id: SessionId | None
    question_id: MessageId | None
    answer_id: MessageId
    usage_event_id: EventId
    request_id: str
    tier: str
    provider: str
    model: str
    input_estimate: int
    created_at: datetime
    lease_expires_at: datetime
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    surface: Surface = Surface.SESSION

    def place_at(self, provider: str) -> UUID:
        """What its place in the limits is called at a provider that it is moved to. Whoever knows
        the hold can work it out, and it is another one than that which was given back."""
        return uuid5(self.id, provider)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An attempt at a vendor that may charge for it, although another one answered in the end: a
    paid call of its own."""

    usage_event_id: EventId
    provider: str
    model: str
    usage: Usage
    cost_microusd: int | None = None
    key_organisation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The one terminal record of a turn. `provider` and `model` are those that answered.

    `stored_answer`: what a repeated request with the same idempotency key is answered, for turns
    without a session. `shows_more`: the user got to see more of it than text and calls, as the
    thinking that a vendor shows. `safety_ratings`: the vendor's of the answer, by category.
    `key_organisation_id`: the organisation on whose key it was made, where that was told. `at`:
    when it ended; without it, when it is stored.
    """

    outcome: Outcome
    text: str
    usage: Usage
    provider: str
    model: str
    provider_request_id: str | None
    processing_time_ms: int
    finish_reason: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    thoughts: Sequence[Thought] = ()
    fallback_from: str | None = None
    abandoned: Sequence[Abandoned] = ()
    stored_answer: bytes | None = None
    cost_microusd: int | None = None
    price_version: str | None = None
    shows_more: bool = False
    safety_ratings: Mapping[str, str] | None = None
    key_organisation_id: UUID | None = None
    at: datetime | None = None

    @property
    def has_content(self) -> bool:
        """Whether there is anything of an answer."""
        return bool(self.text or self.tool_calls)

    @property
    def reached_user(self) -> bool:
        """Whether anything reached the user; else their tier's limits are not charged."""
        return self.has_content or self.shows_more

    @property
    def can_be_repeated(self) -> bool:
        """Whether there is something to say again to a request with the same idempotency key;
        without, the key is free for another try."""
        return self.has_content or self.outcome is Outcome.DONE

    @property
    def whole_cost_microusd(self) -> int | None:
        """The cost of all its paid calls, as far as it is known."""
        costs = [self.cost_microusd, *(lost.cost_microusd for lost in self.abandoned)]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Orphan:
    """A hold whose replica died: nobody renews its lease."""

    hold: Hold
    output_letters: int
    provider_request_id: str | None
    sandbox: bool


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn as its user may look back on it. `kept_answer`: what a repeated request would get,
    while a turn without a session keeps it."""

    id: TurnId
    session_id: SessionId | None
    surface: str
    provider: str
    model: str
    tier: str
    outcome: Outcome | None
    request_id: str
    provider_request_id: str | None
    output_characters: int
    cost_microusd: int | None
    idempotency_key: str | None
    kept_answer: bytes | None
    created_at: datetime
    settled_at: datetime | None
