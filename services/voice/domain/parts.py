"""A long text in parts that are said one after the other.

A part ends where a speaker would pause anyway: after a sentence, or, in a sentence that is longer
than a part, after a clause, else after a word; and never inside what readers see as one character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# So much of a part's end is searched for a sentence's: few are longer, and the search may take time
# that grows with the square of what it looks at.
_LOOKED_AT = 1_500
# A part is no shorter than this share of what it may hold, if it can be helped: better one pause
# after a clause than many requests.
_SHORTEST_SHARE = 4
_CLAUSE = re.compile(
    r"[,;:\u2014\u2013\u3001\uff0c\uff1b\uff1a\u060c\u061b](?=\s|[^\x00-\u2fff])\s*|\n+"
)
_SPACE = re.compile(r"\s+")
_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAGS = range(0x1F1E6, 0x1F200)
_HANGUL_TAIL = range(0x1160, 0x1200)
_MARKS = frozenset({"Mn", "Mc", "Me", "Cf"})


def parts_of(text: str, most: int, *, language: str | None = None) -> Sequence[str]:
    """The text in parts of at most `most` characters; together they are the text, but for the
    white space between them."""
    parts, start = [], 0
    while len(text) - start > most:
        end = _end_of_part(text, start, start + most, language or language_of(text, start))
        if part := text[start:end].strip():
            parts.append(part)
        start = end
    if part := text[start:].strip():
        parts.append(part)
    return parts


def _end_of_part(text: str, start: int, latest: int, language: str) -> int:
    earliest = start + (latest - start) // _SHORTEST_SHARE
    sentence = _last_sentence(text, max(earliest, latest - _LOOKED_AT), latest, language)
    if sentence is not None:
        return sentence
    for pause in (_CLAUSE, _SPACE):
        ends = [found.end() for found in pause.finditer(text, earliest, latest)]
        if ends:
            return ends[-1]
    return _between_characters(text, earliest, latest)


def _last_sentence(text: str, start: int, latest: int, language: str) -> int | None:
    """Where the last sentence between the two ends; None when none does."""
    from sentencex import get_sentence_boundaries

    # From a whole word on: the end of an abbreviation looks like that of a sentence.
    space = _SPACE.search(text, start, latest)
    start = start if space is None else space.end()
    # What follows shows whether it was an end: `3.` may go on as `3.5`.
    window = text[start : latest + 1]
    sentences = get_sentence_boundaries(language, window)
    ends: list[int] = [start + found["end_index"] for found in sentences[:-1]]
    fitting = [end for end in ends if start < end <= latest]
    return fitting[-1] if fitting else None


def _between_characters(text: str, earliest: int, latest: int) -> int:
    for end in range(latest, earliest, -1):
        if _may_end(text[end - 1], text[end]):
            return end
    return latest


def _may_end(before: str, after: str) -> bool:
    """Whether two code points are of different characters, as readers see them."""
    if after == _JOINER or before == _JOINER or unicodedata.category(after) in _MARKS:
        return False
    code = ord(after)
    return code not in _SKIN_TONES and code not in _FLAGS and code not in _HANGUL_TAIL


def language_of(text: str, start: int = 0) -> str:
    """A language whose rules fit the script that the text is written in."""
    for character in text[start : start + 200]:
        for language, first, last in _SCRIPTS:
            if first <= character <= last:
                return language
    return "en"


_SCRIPTS = (
    ("ja", "\u3040", "\u30ff"),
    ("zh", "\u4e00", "\u9fff"),
    ("ko", "\uac00", "\ud7a3"),
    ("ru", "\u0400", "\u04ff"),
    ("el", "\u0370", "\u03ff"),
    ("ar", "\u0600", "\u06ff"),
    ("hi", "\u0900", "\u097f"),
    ("th", "\u0e00", "\u0e7f"),
)
