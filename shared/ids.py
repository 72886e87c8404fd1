"""Identifiers. Two ids of different things have different types."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import NewType
from uuid import UUID

UserId = NewType("UserId", UUID)
EventId = NewType("EventId", UUID)

_lock = threading.Lock()
_last = 0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def uuid7() -> UUID:
    """A time-ordered id (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 12 bits that make
    ids of one process strictly increase, 62 random bits.

    Where the clock stands still or steps back, the id counts on from the last one (section 6.2,
    method 1), so that ids made in one process sort in the order in which they were made.
    """
    global _last
    now = time.time_ns()
    # Milliseconds in the upper bits, the fraction of a millisecond in 12 bits below them.
    stamp = (now // 1_000_000) << 12 | (now % 1_000_000) * 4096 // 1_000_000
    with _lock:
        stamp = _last = max(stamp, _last + 1)
    return _at(stamp)


def uuid7_after(earlier: UUID | None) -> UUID:
    """A time-ordered id that is higher than another one, made in any process, whose clock may be
    ahead of ours."""
    made = uuid7()
    if earlier is None or made.int > earlier.int:
        return made
    return _at((earlier.int >> 80 << 12 | earlier.int >> 64 & 0xFFF) + 1)


def _at(stamp: int) -> UUID:
    milliseconds, fraction = stamp >> 12, stamp & 0xFFF
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)


def uuid7_of(milliseconds: int, seed: bytes) -> UUID:
    """A time-ordered id that is the same for the same moment (Unix milliseconds, not negative) and
    seed: a digest of the seed stands in the place of chance."""
    rest = int.from_bytes(hashlib.sha256(seed).digest()[:10], "big")
    rest = rest & ~(0xF << 76) & ~(0b11 << 62) | 0x7 << 76 | 0b10 << 62
    return UUID(int=milliseconds << 80 | rest)


def first_id_at(at: datetime) -> UUID:
    """No id made before this moment is as high, and none made later is lower."""
    milliseconds = (at - _EPOCH) // _MILLISECOND
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62)
