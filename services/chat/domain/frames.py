"""What a vendor's answer is made of once its wire is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal, TypeAlias

from services.chat.domain.content import Thought
from services.chat.domain.usage import Usage
from shared.values import dataclass

_WORD = re.compile(r"[A-Za-z_]{1,64}")

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "paused", "other"]

# In letters (see `usage.letters_of`): more than the longest answer of any model. A vendor that
# never ends is cut here, not where memory ends.
LONGEST_ANSWER = 8 << 20


@dataclass(frozen=True, slots=True)
class Began:
    """The vendor has begun: its own id of the answer and the model it really used. `usage`: what it
    has told of that by now; the output may be yet to come. Said again when that becomes more."""

    provider_request_id: str | None
    model: str | None
    # Whole or in pieces, the same is said, however much of its count is known by now.
    usage: Usage | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of what the vendor shows of the model's reasoning; no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A piece of a tool call: the first one of an `index` names it, later ones append arguments."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Thoughts:
    """Opaque blocks of reasoning, to be given back to the same vendor with the next turn."""

    blocks: Sequence[Thought]


@dataclass(frozen=True, slots=True)
class Ended:
    """The vendor has said all; `usage` is None when it did not tell. `ratings`: the vendor's safety
    ratings by category. `continuation`: what to send for the rest of a `paused` answer. `why`: the
    vendor's own word for the reason, where there is more to say than `reason` does."""

    reason: FinishReason
    usage: Usage | None
    ratings: Mapping[str, str] | None = None
    continuation: str | None = None
    why: str | None = None

    @property
    def told_why(self) -> str | None:
        """`why`, if it can be told to others: a word, and no text that might repeat a key."""
        return self.why if self.why is not None and _WORD.fullmatch(self.why) else None


Frame: TypeAlias = Began | Text | Thinking | ToolCallPiece | Thoughts | Ended
