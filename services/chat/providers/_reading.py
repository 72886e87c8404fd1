"""Reads an answer document by document: the frame of every wire whose documents are JSON objects.

A vendor's shapes are taken as they come: what is missing or of another type counts as absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from services.chat.domain.frames import Frame
from shared.errors import ExpectedFailure
from shared.events.usage import LONGEST_TEXT, MOST_UNITS
from shared.vendors.failures import VendorFailed

_LARGEST_ANSWER = 64 << 20
# Of one number. A vendor may count a call in several, whose sum has to be one that is believed.
_MOST = MOST_UNITS // 10
_MOST_DIGITS = len(str(_MOST))


class Framing(Protocol):
    """Cuts a body, in whatever pieces it comes, into its documents."""

    def feed(self, data: bytes) -> Sequence[bytes]: ...
    def end(self) -> Sequence[bytes]: ...


class Answer(Protocol):
    """What the documents of one answer add up to."""

    def take(self, document: Mapping[str, Any]) -> Iterable[Frame]:
        """What one document says. Raises what the vendor tells of its own failure."""
        ...

    def end(self) -> Iterable[Frame]:
        """What is left to say. Raises VendorFailed when the answer is not whole."""
        ...


class WholeBody:
    """A body that is one document."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Sequence[bytes]:
        self._size += len(data)
        if self._size > _LARGEST_ANSWER:
            raise VendorFailed(self._provider)
        self._pieces.append(data)
        return ()

    def end(self) -> Sequence[bytes]:
        return [b"".join(self._pieces)]


class DocumentReader:
    """The reader of an answer. However the bytes are cut, the same frames come before a failure:
    one that is told behind other things in the same bytes waits for the next call."""

    def __init__(self, provider: str, framing: Framing, answer: Answer) -> None:
        self._provider = provider
        self._framing = framing
        self._answer = answer
        self._failure: ExpectedFailure | None = None

    def feed(self, data: bytes) -> Sequence[Frame]:
        self._tell_failure()
        frames: list[Frame] = []
        try:
            self._take(self._framing.feed(data), frames)
        except ExpectedFailure as failure:
            self._failure = failure
            if not frames:
                raise
        return frames

    def end(self) -> Sequence[Frame]:
        self._tell_failure()
        frames: list[Frame] = []
        self._take(self._framing.end(), frames)
        frames.extend(self._answer.end())
        return frames

    def _tell_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _take(self, documents: Iterable[bytes], frames: list[Frame]) -> None:
        for document in documents:
            if document:
                frames.extend(self._answer.take(self._parsed(document)))

    def _parsed(self, document: bytes) -> Mapping[str, Any]:
        try:
            parsed = orjson.loads(document)
        except orjson.JSONDecodeError as error:
            raise VendorFailed(self._provider) from error
        if not isinstance(parsed, dict):
            raise VendorFailed(self._provider)
        return parsed


def mapping(value: Any) -> Mapping[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def said_in(value: Any) -> dict[str, Any]:
    """What an object says. A vendor that tells a thing in pieces may name the others as null."""
    return {name: said for name, said in mapping(value).items() if said is not None}


def rows(value: Any) -> Sequence[Mapping[str, Any]]:
    """The objects of a list."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """The text, or an empty one; without NUL, which no database of ours can hold."""
    if not isinstance(value, str):
        return ""
    return value.replace("\0", "\ufffd") if "\0" in value else value


def storable(value: Any) -> Any:
    """A JSON value that is kept as it came, but for NUL in its texts."""
    if isinstance(value, dict):
        return {text(name): storable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [storable(part) for part in value]
    return text(value) if isinstance(value, str) else value


def as_name(value: Any) -> str | None:
    """What something is called, as much of it as is kept."""
    return text(value)[:LONGEST_TEXT] or None


def count(value: Any) -> int:
    """The number of something, or none."""
    return _number(value) or 0


def are_told(counts: Mapping[str, Any], *names: str) -> bool:
    """Whether any of these numbers is there, and none of them is there that can't be read: then
    what is known of the others is no count of a call."""
    told = [counts[name] for name in names if counts.get(name) is not None]
    return bool(told) and None not in map(_number, told)


def _number(value: Any) -> int | None:
    """A whole number, however it is written; None for anything else, and for one that can't be."""
    written = isinstance(value, str) and value.isdecimal() and len(value) <= _MOST_DIGITS
    if written or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None
