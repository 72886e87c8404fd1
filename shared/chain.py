"""What chains over records share: bytes that no other record has, and the end of a chain."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Self

from shared.values import dataclass

_HEAD = re.compile(r"(0|[1-9]\d{0,18}):([0-9a-f]{64})")


def joined(fields: Iterable[bytes]) -> bytes:
    """Each field with its length before it, so that no two lists of fields give the same bytes."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


@dataclass(frozen=True, slots=True)
class Head:
    """The last link of a chain, to be kept where nobody can write who writes to the database."""

    sequence: int
    mac: bytes

    def __str__(self) -> str:
        return f"{self.sequence}:{self.mac.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        match = _HEAD.fullmatch(text.strip())
        if match is None:
            raise ValueError("a head is SEQUENCE:MAC, with a MAC of 64 hexadecimal digits")
        return cls(int(match[1]), bytes.fromhex(match[2]))

    def is_same_place(self, other: Head) -> bool:
        return self.sequence == other.sequence and hmac.compare_digest(self.mac, other.mac)
