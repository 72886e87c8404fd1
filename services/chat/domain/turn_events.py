"""What a running turn says to whoever follows it, one event after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from services.chat.domain.content import ToolCall
from services.chat.domain.conversation import Message
from services.chat.domain.turn import Hold
from shared.errors import ExpectedFailure
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """The turn was let in; always the first event. `left_out` tells how many messages of before
    did not fit into the model's context; it is unknown of a turn that ran elsewhere."""

    hold: Hold
    left_out: int | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinks:
    """A piece of what the vendor shows of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class CallsTool:
    """A piece of a tool call; see `frames.ToolCallPiece`."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class FellBack:
    """Another provider answers than was asked; only ever before any content."""

    provider: str
    model: str
    fallback_from: str


@dataclass(frozen=True, slots=True)
class UsageTold:
    """What the turn used and cost: its message is settled."""

    message: Message


@dataclass(frozen=True, slots=True)
class Answered:
    """The last event of a turn that was answered, also of one that was stopped."""

    message: Message
    finish_reason: str
    fallback_from: str | None = None
    tool_calls: Sequence[ToolCall] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """The last event of a turn that failed; `message` is what was written before, None when nothing
    was."""

    failure: ExpectedFailure
    message: Message | None


TurnEvent: TypeAlias = (
    Started | Delta | Thinks | CallsTool | FellBack | UsageTold | Answered | Broken
)
