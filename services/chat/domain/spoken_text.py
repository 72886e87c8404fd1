"""What of an answer is read out, and where it may be cut while it is still being written."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sentencex

LONGEST_CHUNK = 200
"""In characters: a sentence that has no end by then is cut at a clause."""

# Its rules for abbreviations are English ones; where sentences end it knows for all scripts.
_LANGUAGE = "en"
_SHORTEST_CLAUSE = 60
# Behind what may still become a link or code; beyond that nobody closes it any more.
_LONGEST_OPEN = 600
# The search for sentences may take time that grows with the square of what it looks at.
_LOOKED_AT = 1_000

_FENCE = re.compile(r"\s*(`{3,}(?=[^`]*\Z)|~{3,})")
_MAYBE_FENCE = re.compile(r"\s*(?:`{1,2}|~{1,2})?\Z")
_TABLE_ROW = re.compile(r"\s*\|")
_RULE = re.compile(r"\s*([-*_=])(?:\s*\1){2,}\s*\Z")
_MAYBE_RULE = re.compile(r"\s*([-*_=])(?:\s*\1)*\s*\Z")
_BLOCK = re.compile(r"\s*(?:#{1,6}\s|>|[-*+]\s|\d{1,9}[.)]\s)")
_MAYBE_BLOCK = re.compile(r"\s*(?:#{1,6}|[-*+]|\d{1,9}[.)]?)?\Z")
_DEFINITION = re.compile(r" {0,3}\[[^\]\n]{1,200}\]:\s")
_MAYBE_DEFINITION = re.compile(r" {0,3}\[[^\]\n]{0,200}(?:\]|\]:.*)?\Z")
_NUMBER = re.compile(r"\s*\d{1,9}[.)]\s*\Z")

_ENDS = re.compile(r"[.!?…。！？｡؟।\n]")
_CLAUSE = re.compile(r"[,;:)\]](?=\s)|\s[–—-](?=\s)|—|[、，；：]")

_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)\s]*(?:\s+\"[^\"]*\")?\)")
_LINK = re.compile(r"\[([^\]]+)\](?:\([^)\s]*(?:\s+\"[^\"]*\")?\)|\[[^\]]*\])")
_URL = re.compile(r"<?\b(?:https?://|www\.)([^\s<>()\[\]/?#:@]+)[^\s<>()\[\]]*>?")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*(?:\s[^<>]*)?/?>")
_BLOCK_MARK = re.compile(r"^\s*(?:#{1,6}\s+|(?:>\s?)+|[-*+]\s+(?:\[[ xX]\]\s+)?)+", re.MULTILINE)
_CLOSING_HASHES = re.compile(r"\s#+\s*$", re.MULTILINE)
_EMPHASIS = re.compile(
    r"(?<![\w\\])\*(?=\S)|(?<=[^\s*\\])\*(?!\w)|(?<!\w)_{1,3}(?=\w)|(?<=[\w.!?,;:])_{1,3}(?!\w)"
)
_MARKS = re.compile(r"(?<!\d)\*\*+|\*\*+(?!\d)|~~|`+")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|>~])")
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200b-\u200d\ufeff]")
_SPACES = re.compile(r"\s+")
_LETTER = re.compile(r"\w")


def speakable_text(prose: str) -> str:
    """What is read out of a piece of Markdown prose; empty when nothing of it is.

    Marks are left out, a link is its text, a bare address its host, an image its description.
    """
    text = _IMAGE.sub(r"\1", prose)
    text = _LINK.sub(r"\1", text)
    text = _URL.sub(_host, text)
    text = _TAG.sub(" ", text)
    text = _BLOCK_MARK.sub("", text)
    text = _CLOSING_HASHES.sub("", text)
    text = _MARKS.sub("", text)
    text = _EMPHASIS.sub("", text)
    text = _ESCAPED.sub(r"\1", text)
    text = _SPACES.sub(" ", _UNSPEAKABLE.sub("", text)).strip()
    return text if _LETTER.search(text) else ""


def _host(url: re.Match[str]) -> str:
    host = url[1].removeprefix("www.")
    # The full stop of a sentence that ends with an address.
    end = re.search(r"[.,;:!?]+\Z", url[0].rstrip(">"))
    return host.rstrip(".,;:!?") + (end[0] if end else "")


class SpokenText:
    """Takes an answer as it is written and gives the sentences to be read out, each as early as its
    end is known: once the next one begins, or its paragraph ends.

    Code blocks, tables and rules are left out.
    """

    def __init__(self) -> None:
        self._line = ""  # of which the kind is not known yet
        self._prose = ""  # of a paragraph
        self._is_inside = False  # of a line whose beginning is in the paragraph already
        self._fence = ""

    @property
    def is_within_sentence(self) -> bool:
        """Whether one has begun that is to be read out, as far as can be told."""
        return _LETTER.search(self._prose) is not None

    def add(self, text: str) -> list[str]:
        """The sentences that are complete now."""
        text = text.replace("\r\n", "\n")
        pieces = [text[start : start + _LOOKED_AT] for start in range(0, len(text), _LOOKED_AT)]
        return [said for piece in pieces for said in self._take(piece, is_last=False)]

    def finish(self) -> list[str]:
        """What is left at the end."""
        said = list(self._take("\n", is_last=True))
        return [*said, *self._paragraph_ends()]

    def _take(self, text: str, *, is_last: bool) -> Iterator[str]:
        *lines, rest = (self._line + text).split("\n")
        self._line = ""
        for line in lines:
            yield from self._take_line(line)
        if rest and not is_last:
            yield from self._take_beginning(rest)

    def _take_line(self, line: str) -> Iterator[str]:
        """A line, or the rest of one, that is complete."""
        if self._is_inside:
            self._is_inside = False
            self._prose += line + "\n"
            yield from self._sentences()
        elif self._fence:
            if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
                self._fence = ""
        elif (fence := _FENCE.match(line)) is not None:
            self._fence = fence[1]
            yield from self._paragraph_ends()
        elif _is_left_out(line):
            yield from self._paragraph_ends()
        else:
            if _BLOCK.match(line):
                yield from self._paragraph_ends()
            self._prose += line + "\n"
            yield from self._sentences()

    def _take_beginning(self, line: str) -> Iterator[str]:
        """A line that is still being written: said already if it can only be prose."""
        if not self._is_inside:
            if self._fence or _may_be_none(line):
                self._line = line
                return
            if _BLOCK.match(line):
                yield from self._paragraph_ends()
            self._is_inside = True
        self._prose += line
        yield from self._sentences()

    def _paragraph_ends(self) -> Iterator[str]:
        prose, self._prose = self._prose, ""
        for sentence in _segments(prose):
            yield from _chunks(sentence)

    def _sentences(self) -> Iterator[str]:
        prose = self._prose
        if not _ENDS.search(prose) and len(prose) < LONGEST_CHUNK:
            return
        *whole, rest = _segments(prose)
        for sentence in whole:
            yield from _chunks(sentence)
        while len(rest) > LONGEST_CHUNK and (at := _cut_of(rest)):
            said, rest = rest[:at], rest[at:]
            yield from _chunks(said)
        self._prose = rest


def _segments(prose: str) -> list[str]:
    """The sentences of it, none cut within a link or code; together they are the whole of it."""
    joined: list[str] = []
    for part in sentencex.segment(_LANGUAGE, prose):
        if joined and _belongs_to(joined[-1], part):
            joined[-1] += part
        else:
            joined.append(part)
    return joined or [""]


def _belongs_to(before: str, part: str) -> bool:
    """Whether the text goes on where a sentence seemed to end."""
    return (
        _is_open(before)
        or _NUMBER.match(before) is not None
        or (before.endswith("!") and part.startswith("["))
        or not part.strip(" \n*_~)\"'")
    )


def _chunks(sentence: str) -> Iterator[str]:
    """A sentence as it is read out, in pieces that are not too long."""
    text = speakable_text(sentence)
    while len(text) > LONGEST_CHUNK:
        at = _cut_of(text) or LONGEST_CHUNK
        yield text[:at].strip()
        text = text[at:].strip()
    if text:
        yield text


def _cut_of(text: str) -> int:
    """Where to cut a text that is too long: behind a clause, else a word, else anywhere; 0 while it
    had better not be cut."""
    for mark in (_CLAUSE, _SPACES):
        places = [found.end() for found in mark.finditer(text, _SHORTEST_CLAUSE, LONGEST_CHUNK)]
        for place in reversed(places):
            if not _is_open(text[:place]):
                return place
    is_one = _is_open(text[:LONGEST_CHUNK]) or "://" in text[:LONGEST_CHUNK]
    return 0 if is_one and len(text) <= _LONGEST_OPEN else LONGEST_CHUNK


def _is_open(text: str) -> bool:
    """Whether it ends within code, a link or an address."""
    if len(text) > _LONGEST_OPEN:
        return False
    if text.count("`") % 2:
        return True
    begins = text.rfind("[")
    if begins < 0:
        return False
    rest = text[begins:]
    closes = rest.find("]")
    return closes < 0 or (rest[closes + 1 : closes + 2] == "(" and ")" not in rest[closes:])


def _is_left_out(line: str) -> bool:
    return not line.strip() or bool(
        _TABLE_ROW.match(line) or _RULE.match(line) or _DEFINITION.match(line)
    )


def _may_be_none(line: str) -> bool:
    """Whether a line that begins so may turn out to be no prose."""
    return bool(
        _MAYBE_FENCE.match(line)
        or _FENCE.match(line)
        or _TABLE_ROW.match(line)
        or _MAYBE_RULE.match(line)
        or _MAYBE_BLOCK.match(line)
        or _MAYBE_DEFINITION.match(line)
    )
