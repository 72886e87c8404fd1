"""One way to turn a list of texts into bytes, such that no two lists give the same bytes."""

from __future__ import annotations

from struct import Struct
from uuid import UUID

Field = str | int | UUID

# Four bytes, the highest first. Every use of a key writes a dozen of them.
_length = Struct(">I").pack


def encode_fields(*fields: Field) -> bytes:
    """Each field as UTF-8 behind its length.

    Without the lengths `user1` + `0openai` and `user10` + `openai` would be one and the same.
    """
    return b"".join([_length(len(text)) + text for text in map(str.encode, map(str, fields))])
