"""Text that comes in bits, gathered into pieces that are worth saying by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

# A sentence is over when white space follows its mark, or at once where the text ends with it; a
# full stop after a digit may yet be a decimal point. The scripts without spaces have marks of
# their own.
_SENTENCE_END = re.compile(
    r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』”’]*|\n|(?<=[^\d.!?…])[.!?…]+[\"'”’»)\]]*\Z"
)
_WORD_END = re.compile(r"\s(?=\S*\Z)")
LONGEST_PIECE = 1_000
# Nobody should wait for the end of a sentence that goes on and on.
_LONG_ENOUGH = 300


class Gathering(Protocol):
    """Decides when there is enough text for a piece of speech."""

    @property
    def waiting(self) -> int:
        """How many characters are not taken yet."""
        ...

    def add(self, text: str) -> None: ...

    def take(self, *, everything: bool) -> str | None:
        """The next piece with its white space, None when there is none worth saying yet."""
        ...


class _Gathered:
    def __init__(self) -> None:
        self._text = ""

    @property
    def waiting(self) -> int:
        return len(self._text)

    def add(self, text: str) -> None:
        self._text += text

    def take(self, *, everything: bool) -> str | None:
        while self._text:
            end = self._end()
            if end == 0 and everything:
                end = _cut(self._text)
            if end == 0:
                return None
            while end < min(len(self._text), LONGEST_PIECE) and self._text[end].isspace():
                end += 1
            piece, self._text = self._text[:end], self._text[end:]
            if piece.strip():
                return piece
        return None

    def _end(self) -> int:
        raise NotImplementedError


class WholeSentences(_Gathered):
    """All the sentences that are there, as soon as one is."""

    def _end(self) -> int:
        ends = [found.end() for found in _SENTENCE_END.finditer(self._text[: LONGEST_PIECE + 1])]
        if ends:
            return ends[-1]
        return _cut(self._text) if len(self._text) >= _LONG_ENOUGH else 0


class Scheduled(_Gathered):
    """So many characters for the first piece, so many for the second, and so on: the way in which
    the vendor's own socket gathers."""

    SHORTEST_TRIGGER = 50

    def __init__(self, schedule: Sequence[float]) -> None:
        super().__init__()
        self._schedule = schedule
        self._taken = 0
        self.is_hurried = False

    def take(self, *, everything: bool) -> str | None:
        piece = super().take(everything=everything)
        if piece is not None:
            self._taken += 1
            self.is_hurried = False
        return piece

    def _end(self) -> int:
        enough = self._schedule[min(self._taken, len(self._schedule) - 1)]
        if self.is_hurried:
            enough = min(enough, self.SHORTEST_TRIGGER)
        if len(self._text) < enough:
            return 0
        found = _WORD_END.search(self._text[:LONGEST_PIECE])
        # The last word may go on in what comes next.
        return found.end() if found else _cut(self._text) if len(self._text) > LONGEST_PIECE else 0


def _cut(text: str) -> int:
    """Where to end a piece of a text that has no better place."""
    if len(text) <= LONGEST_PIECE:
        return len(text)
    space = text.rfind(" ", 1, LONGEST_PIECE)
    return space + 1 if space > 0 else LONGEST_PIECE
