"""A piece of audio, and which letters are spoken when in it."""

from __future__ import annotations

from collections.abc import Sequence

from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Alignment:
    """When each character is spoken, in seconds from the beginning of its piece."""

    characters: Sequence[str]
    starts: Sequence[float]
    ends: Sequence[float]


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio as it came; without audio it is the end."""

    audio: bytes
    alignment: Alignment | None = None
    normalized: Alignment | None = None  # of the text as it is read out: numbers as words
