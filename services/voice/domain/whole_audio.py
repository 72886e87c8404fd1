"""Audio that is all there before its hearer gets any of it."""

from __future__ import annotations

_PIECE_BYTES = 64 * 1024


class WholeAudio:
    """Reads like a vendor's, from memory."""

    request_id: str | None = None

    def __init__(self, audio: bytes, characters: int | None = None) -> None:
        self.characters = characters
        self._left = memoryview(audio)

    async def read(self) -> bytes:
        piece, self._left = self._left[:_PIECE_BYTES], self._left[_PIECE_BYTES:]
        return bytes(piece)
