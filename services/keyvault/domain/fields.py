"""One way to turn a list of texts into bytes, such that no two lists give the same bytes."""

from __future__ import annotations

from uuid import UUID

Field = str | int | UUID

_LENGTH_BYTES = 4
# Every use of a key writes a dozen of them, nearly all of them short.
_SHORT = [length.to_bytes(_LENGTH_BYTES, "big") for length in range(256)]


def encode_fields(*fields: Field) -> bytes:
    """Each field as UTF-8 behind its length.

    Without the lengths `user1` + `0openai` and `user10` + `openai` would be one and the same.
    """
    pieces: list[bytes] = []
    for field in fields:
        text = str(field).encode()
        length = len(text)
        pieces.append(
            _SHORT[length] if length < len(_SHORT) else length.to_bytes(_LENGTH_BYTES, "big")
        )
        pieces.append(text)
    return b"".join(pieces)
