"""A chat session and its messages, one record each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from services.chat.domain.content import Role, Thought, ToolCall, ToolResult
from shared.ids import UserId
from shared.values import dataclass

SessionId = NewType("SessionId", UUID)
MessageId = NewType("MessageId", UUID)

DEFAULT_NAME = "New chat"

_LONGEST_OWN_NAME = 60


class MessageStatus(StrEnum):
    """`pending`: a question whose answer is still being written, broke off or never came. `done`:
    said and heard. `interrupted`: an answer that was cut; what was written of it is kept."""

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

    @property
    def has_no_name(self) -> bool:
        """Whether its first question is to name it."""
        return self.name == DEFAULT_NAME

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
class Attachment:
    """What was sent along with a message; its bytes are kept apart, unless the vendor fetches it
    from its URL."""

    id: UUID
    media_type: str | None
    url: str | None = None
    size_bytes: int | None = None


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
    finish_reason: str | None = None
    parent_id: MessageId | None = None
    active: bool = True  # on the branch that is shown and that the vendor gets to see
    tool_calls: Sequence[ToolCall] = ()
    tool_results: Sequence[ToolResult] = ()
    thoughts: Sequence[Thought] = ()
    attachments: Sequence[Attachment] = ()
    safety_ratings: Mapping[str, str] | None = None  # where the vendor rates its answers


def name_from(question: str) -> str | None:
    """What a session is called when its user gave it no name: the first line of the first question,
    up to sixty characters and whole words. None for a question without words."""
    line = next((line for line in question.splitlines() if line.strip()), "")
    name = " ".join(line.split())
    if len(name) <= _LONGEST_OWN_NAME:
        return name or None
    cut = name[:_LONGEST_OWN_NAME]
    # A word that is cut goes, unless it is all there is (as in Chinese, which has no spaces).
    whole = cut.rpartition(" ")[0] if name[_LONGEST_OWN_NAME] != " " else cut
    return (whole if len(whole) > _LONGEST_OWN_NAME // 2 else cut).rstrip() + "…"


def branch_through(
    parents: Mapping[MessageId, MessageId | None], message_id: MessageId
) -> frozenset[MessageId]:
    """The messages of the branch that holds this one: those before it, and after it the newest
    answer, the newest question to that, and so on. Ids are made in time's order."""
    children: dict[MessageId, MessageId] = {}
    for child in sorted(parents):
        if (parent := parents[child]) is not None:
            children[parent] = child
    branch = {message_id}
    before, after = parents[message_id], children.get(message_id)
    while before is not None and before in parents and before not in branch:
        branch.add(before)
        before = parents[before]
    while after is not None and after not in branch:
        branch.add(after)
        after = children.get(after)
    return frozenset(branch)
