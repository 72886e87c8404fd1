"""Cutting a stream into whole events, so that a client gets each one entirely or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.vendors.failures import VendorFailed

_LONGEST_EVENT = 8 << 20
# A blank line, whichever of the three ends of a line it is made of.
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class WholeEvents:
    """The bytes of a stream as they come, cut behind blank lines alone. Nothing is changed."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._rest = b""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The events that are complete now. Raises VendorFailed for one too large to be one."""
        # A blank line may have begun at the end of the last piece.
        looked_at = max(0, len(self._rest) - 3)
        data = self._rest + data if self._rest else data
        events, begin = [], 0
        for end in _END.finditer(data, looked_at):
            events.append(data[begin : end.end()])
            begin = end.end()
        self._rest = data[begin:]
        if len(self._rest) > _LONGEST_EVENT:
            raise VendorFailed(self._provider)
        return events

    def rest(self) -> bytes:
        """What the stream ended with and no blank line ended."""
        rest, self._rest = self._rest, b""
        return rest
