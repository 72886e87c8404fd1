"""A chat session and its messages, one record each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from shared.ids import UserId

SessionId = NewType("SessionId", UUID)
MessageId = NewType("MessageId", UUID)

DEFAULT_NAME = "New chat"


class Role(StrEnum):
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class MessageStatus(StrEnum):
    """`pending`: a question whose answer is still being written or never came. `done`: said and
    heard. `interrupted`: an answer that was cut; what was written of it is kept."""

    PENDING = "pending"
    DONE = "done"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class ChatSession:
    """One conversation of one user with an active provider."""

    id: SessionId
    user_id: UserId
    name: str
    provider: str
    system_prompt: str | None
    created_at: datetime
    updated_at: datetime

    def changed(
        self,
        at: datetime,
        *,
        name: str | None,
        provider: str | None,
        system_prompt: str | None,
    ) -> ChatSession:
        """The session with the given parts replaced; None leaves a part as it is, an empty
        system prompt removes it."""
        return replace(
            self,
            name=self.name if name is None else name,
            provider=provider or self.provider,
            system_prompt=self.system_prompt if system_prompt is None else system_prompt or None,
            updated_at=at,
        )


@dataclass(frozen=True, slots=True)
class Message:
    """What was said, by whom, and what it took."""

    id: MessageId
    session_id: SessionId
    role: Role
    content: str
    status: MessageStatus
    created_at: datetime
    provider: str | None = None
    model: str | None = None
    usage: Mapping[str, Any] | None = None
    cost_microusd: int | None = None
    processing_time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """A turn of the conversation as a vendor gets to see it."""

    role: Role
    content: str


def fitting_history(history: Sequence[Utterance], characters: int) -> list[Utterance]:
    """The newest utterances that fit into the budget, oldest first, beginning with the user's.

    A rule that can be told to the user: the oldest are forgotten first, none is cut in half.
    """
    kept: list[Utterance] = []
    for utterance in reversed(history):
        characters -= len(utterance.content)
        if characters < 0:
            break
        kept.append(utterance)
    while kept and kept[-1].role is not Role.USER:
        kept.pop()
    return kept[::-1]
