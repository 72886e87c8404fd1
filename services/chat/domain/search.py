"""Finding a conversation by what was said in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.chat.domain.content import Role
from services.chat.domain.conversation import ChatSession, MessageId
from shared.values import dataclass

LONGEST_QUERY = 200
_MOST_TERMS = 8
_AROUND = 80
_MEANING = re.compile(r"[%_\\]")

EXCERPT_CHARACTERS = 320
"""How much of a message is looked at for its snippet, from a little before the first term."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """Where the first term stands in a message, as plain text on one line."""

    message_id: MessageId
    role: Role
    before: str
    match: str
    after: str


@dataclass(frozen=True, slots=True)
class Found:
    """A session in which all terms stand in its name or in one message; then with its newest such
    message."""

    session: ChatSession
    snippet: Snippet | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What is looked for: parts of words, in any order, in capitals or not."""

    words: Sequence[str]

    @classmethod
    def of(cls, query: str) -> Terms:
        """The query's words, each once; what goes beyond eight narrows nothing."""
        return cls(tuple(dict.fromkeys(query.split()))[:_MOST_TERMS])

    @property
    def first(self) -> str:
        return self.words[0]

    @property
    def patterns(self) -> list[str]:
        """For LIKE, with nothing in them that means anything to it."""
        return [f"%{_MEANING.sub(_escaped, word)}%" for word in self.words]

    def snippet(self, message_id: MessageId, role: Role, excerpt: str) -> Snippet:
        """Of an excerpt in which the first term stands."""
        found = re.search(re.escape(self.first), excerpt, re.IGNORECASE)
        start, end = found.span() if found else (0, 0)
        return Snippet(
            message_id,
            role,
            before=_one_line(excerpt[max(0, start - _AROUND) : start]).lstrip(),
            match=excerpt[start:end],
            after=_one_line(excerpt[end : end + _AROUND]).rstrip(),
        )


def _escaped(sign: re.Match[str]) -> str:
    return "\\" + sign.group()


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
