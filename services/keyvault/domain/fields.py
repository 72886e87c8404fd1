"""One way to turn a list of texts into bytes, such that no two lists give the same bytes."""

from __future__ import annotations

from uuid import UUID

Field = str | int | UUID

_LENGTH_BYTES = 4


def encode_fields(*fields: Field) -> bytes:
    """Each field as UTF-8 behind its length.

    Without the lengths `user1` + `0openai` and `user10` + `openai` would be one and the same.
    """
    pieces: list[bytes] = []
    for field in fields:
        text = str(field).encode()
        pieces += (len(text).to_bytes(_LENGTH_BYTES, "big"), text)
    return b"".join(pieces)
