"""A turn: a question, the hold on a paid call, and exactly one terminal record of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from services.chat.domain.conversation import MessageId, MessageStatus, SessionId, Utterance
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.usage import Usage
from shared.ids import EventId, UserId

TurnId = NewType("TurnId", UUID)


class Outcome(StrEnum):
    """How a turn ended. `refused`: the vendor declined before any work, so nothing was used."""

    DONE = "done"
    STOPPED = "stopped"
    CLIENT_GONE = "client_gone"
    PROVIDER_FAILED = "provider_failed"
    REPLICA_LOST = "replica_lost"
    REFUSED = "refused"

    @property
    def answer_status(self) -> MessageStatus:
        return MessageStatus.DONE if self is Outcome.DONE else MessageStatus.INTERRUPTED


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the vendor is asked."""

    choice: ModelChoice
    system_prompt: str | None
    utterances: Sequence[Utterance]
    end_user: str  # an opaque id of the user, for the vendor's abuse detection

    @property
    def characters(self) -> int:
        return len(self.system_prompt or "") + sum(len(u.content) for u in self.utterances)

    @property
    def messages(self) -> int:
        return len(self.utterances) + (1 if self.system_prompt else 0)


@dataclass(frozen=True, slots=True)
class Hold:
    """Written before the vendor is called. Its event id is the usage's identity: whoever settles
    it, and however often, the ledger sees one entry."""

    id: TurnId
    user_id: UserId
    session_id: SessionId
    question_id: MessageId
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


@dataclass(frozen=True, slots=True)
class Settlement:
    """The one terminal record of a turn."""

    outcome: Outcome
    text: str
    usage: Usage
    model: str
    provider_request_id: str | None
    processing_time_ms: int
    cost_microusd: int | None = None
    price_version: str | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """A hold whose replica died: nobody renews its lease."""

    hold: Hold
    output_characters: int
    provider_request_id: str | None
    sandbox: bool
