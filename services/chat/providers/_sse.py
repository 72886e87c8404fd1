"""Reading server-sent events off a vendor's answer, in whatever pieces they come.

Lines end in CR LF, LF or CR and in nothing else: a text may hold U+2028 or U+0085, at which
`str.splitlines` would break it. Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.vendors.failures import VendorFailed

_LONGEST_EVENT = 8 << 20


class DataLines:
    """The payloads of `data:` lines. Each vendor writes one line an event, so that lines are enough
    and events need not be put together."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._rest = b""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The payloads that are complete now. Raises VendorFailed for an event too large to be
        one."""
        if not self._rest and _is_one_event(data):
            return (data[5:-2].strip(b" "),)
        # The empty lines that this makes of CR LF mean nothing here.
        *lines, self._rest = (self._rest + data.replace(b"\r", b"\n")).split(b"\n")
        if len(self._rest) > _LONGEST_EVENT:
            raise VendorFailed(self._provider)
        return [line[5:].strip(b" ") for line in lines if line.startswith(b"data:")]

    def end(self) -> Sequence[bytes]:
        """The last payload, if the stream ended without a line's end."""
        rest, self._rest = self._rest, b""
        return [rest[5:].strip(b" ")] if rest.startswith(b"data:") else []


def _is_one_event(data: bytes) -> bool:
    """Whether it is one whole line of data and the line that ends it, as nearly always."""
    return (
        data.startswith(b"data:")
        and data.endswith(b"\n\n")
        and data.find(b"\n") == len(data) - 2
        and b"\r" not in data
    )
