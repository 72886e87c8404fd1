"""Gemini's documents as they come off the wire.

A stream comes as `data:` lines, or, without `alt=sse`, as one JSON array. A failure can come in the
middle of the lines as bare JSON over several of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.vendors.failures import VendorFailed

_LARGEST_DOCUMENT = 8 << 20
_MARK = re.compile(rb'["\\{}]')


class Documents:
    """The documents of a stream, in whichever form it comes."""

    def __init__(self) -> None:
        self._rest = b""
        self._bare: _Objects | None = None

    def feed(self, data: bytes) -> Sequence[bytes]:
        if self._bare is not None:
            return self._bare.feed(data)
        # A line ends in CR LF, LF or CR and nowhere else: U+2028 may stand in a text. The empty
        # lines that this makes of CR LF mean nothing here.
        *lines, self._rest = (self._rest + data.replace(b"\r", b"\n")).split(b"\n")
        if len(self._rest) > _LARGEST_DOCUMENT:
            raise VendorFailed("gemini")
        return self._documents(lines)

    def end(self) -> Sequence[bytes]:
        return self.feed(b"\n")

    def _documents(self, lines: Sequence[bytes]) -> list[bytes]:
        found = []
        for number, line in enumerate(lines):
            if line.startswith(b"data:"):
                found.append(line[5:].strip())
            elif line.lstrip()[:1] in {b"{", b"["}:
                self._bare = _Objects()
                rest = b"\n".join([*lines[number:], self._rest])
                return [*found, *self._bare.feed(rest)]
        return found


class _Objects:
    """Finds the JSON objects of the outermost level, whatever stands between them."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._depth = 0
        self._in_text = False

    def feed(self, data: bytes) -> Sequence[bytes]:
        self._data += data
        found: list[bytes] = []
        start = 0
        while mark := _MARK.search(self._data, self._at):
            self._at = mark.end()
            if self._in_text:
                self._read_text(mark.group())
            elif mark.group() == b"{":
                start = start if self._depth else mark.start()
                self._depth += 1
            elif self._depth:
                self._read_object(mark.group())
                if self._depth == 0:
                    found.append(self._data[start : self._at])
        self._forget(start)
        return found

    def _read_text(self, mark: bytes) -> None:
        if mark == b'"':
            self._in_text = False
        elif mark == b"\\":
            self._at += 1  # whatever is escaped

    def _read_object(self, mark: bytes) -> None:
        if mark == b'"':
            self._in_text = True
        elif mark == b"}":
            self._depth -= 1

    def _forget(self, start: int) -> None:
        """Keep what is not complete, beginning at its start."""
        self._at = max(self._at, len(self._data))
        done = start if self._depth else len(self._data)
        self._data = self._data[done:]
        self._at -= done
        if len(self._data) > _LARGEST_DOCUMENT:
            raise VendorFailed("gemini")
