"""Text that comes in bits, gathered into pieces that are worth saying by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from services.voice.domain.parts import language_of

# A sentence is over when white space follows its mark, or at once where the text ends with it; a
# full stop after a digit may yet be a decimal point. The scripts without spaces have marks of
# their own.
_SENTENCE_END = re.compile(
    r"[.!?…؟۔।]+[\"'”’»)\]]*(?=\s)|[。！？｡]+[」』”’]*|\n"
    r"|(?<=[^\d.!?…؟۔।])[.!?…؟۔।]+[\"'”’»)\]]*\Z"
)
# The number of an item of a list: a sentence that has yet to begin.
_ITEM = re.compile(r"(?:\A|[.!?…\n])[^\S\n]{0,9}\d{1,9}\.\Z")
_MAYBE_END = re.compile(r"[.!?…؟۔।。！？｡][\"'”’»)\]」』]*\s*\Z")
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

    @property
    def may_be_over(self) -> bool:
        """Whether what is not taken ends as a sentence does, though more may belong to it."""
        ...

    def add(self, text: str) -> None: ...

    def flush(self) -> None:
        """What is there now is worth saying; what is added later may wait."""
        ...

    def take(self, *, everything: bool) -> str | None:
        """The next piece with its white space, None when there is none worth saying yet."""
        ...


class _Gathered:
    def __init__(self) -> None:
        self._text = ""
        self._flushed = 0  # so many of its characters

    @property
    def waiting(self) -> int:
        return len(self._text)

    @property
    def may_be_over(self) -> bool:
        return _MAYBE_END.search(self._text) is not None

    def add(self, text: str) -> None:
        self._text += text

    def flush(self) -> None:
        self._flushed = len(self._text)

    def take(self, *, everything: bool) -> str | None:
        while self._text:
            end = self._end()
            if end == 0:
                end = _cut(self._text if everything else self._text[: self._flushed])
            if end == 0:
                return None
            while end < min(len(self._text), LONGEST_PIECE) and self._text[end].isspace():
                end += 1
            piece, self._text = self._text[:end], self._text[end:]
            self._flushed = max(0, self._flushed - end)
            if piece.strip():
                return piece
        return None

    def _end(self) -> int:
        raise NotImplementedError


class WholeSentences(_Gathered):
    """All the sentences that are there, as soon as one is."""

    def _end(self) -> int:
        text = self._text[: LONGEST_PIECE + 1]
        sentences: set[int] | None = None
        for found in reversed(list(_SENTENCE_END.finditer(text))):
            if found[0] != ".":
                return found.end()
            # It may be that of an abbreviation, or of a number.
            sentences = _sentences(text) if sentences is None else sentences
            if found.end() in sentences and not _is_item(text, found.end()):
                return found.end()
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


def _is_item(text: str, end: int) -> bool:
    return _ITEM.search(text, max(0, end - 24), end) is not None


def _sentences(text: str) -> set[int]:
    """Where the sentences of it end, without the white space behind them."""
    from sentencex import get_sentence_boundaries

    # What follows shows whether it was an end; where nothing does yet, it may be anything.
    shown = f"{text.rstrip()} A"
    found = get_sentence_boundaries(language_of(text), shown)
    return {len(shown[: one["end_index"]].rstrip()) for one in found}


def _cut(text: str) -> int:
    """Where to end a piece of a text that has no better place."""
    if len(text) <= LONGEST_PIECE:
        return len(text)
    space = text.rfind(" ", 1, LONGEST_PIECE)
    return space + 1 if space > 0 else LONGEST_PIECE
