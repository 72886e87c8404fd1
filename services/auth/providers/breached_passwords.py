"""An operator's own copy of the passwords known from breaches; nobody outside is asked."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

from shared.settings import SettingsRefused

_DIGITS = 40  # of a SHA-1 in hexadecimal
_PROBES = 512


class UnusableBreachedList(SettingsRefused):
    """The file can't be looked things up in; the message is one sentence for the operator."""


class BreachedPasswords:
    """Sorted lines `SHA1HEX` or `SHA1HEX:count`, as the Have I Been Pwned downloader writes them.

    The file stays on the disk (the whole list has some 40 GB); a look-up reads a few pages of it.
    """

    def __init__(self, path: Path) -> None:
        """Raises UnusableBreachedList."""
        try:
            with path.open("rb") as file:
                self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UnusableBreachedList(
                f"AUTH_BREACHED_PASSWORDS_FILE can't be read or is empty: {path}"
            ) from error
        self._check_sorted()

    def __contains__(self, password: str) -> bool:
        digest = hashlib.sha1(password.encode(), usedforsecurity=False)
        wanted = digest.hexdigest().upper().encode()
        low, high = 0, len(self._lines)
        # Invariant: the line with it, if any, begins in [low, high).
        while low < high:
            start = self._line_around((low + high) // 2)
            found = self._digest_at(start)
            if found == wanted:
                return True
            if found < wanted:
                low = self._after_line(start)
            else:
                high = start
        return False

    def close(self) -> None:
        self._lines.close()

    def _line_around(self, position: int) -> int:
        return self._lines.rfind(b"\n", 0, position) + 1

    def _after_line(self, start: int) -> int:
        end = self._lines.find(b"\n", start)
        return len(self._lines) if end < 0 else end + 1

    def _digest_at(self, start: int) -> bytes:
        return self._lines[start : start + _DIGITS].upper()

    def _check_sorted(self) -> None:
        # Not every line of so many: a file that is sorted at these places was sorted.
        size = len(self._lines)
        starts = sorted({self._line_around(size * n // _PROBES) for n in range(_PROBES)})
        before = b""
        for start in starts:
            for line in (start, self._after_line(start)):
                if line >= size:
                    continue
                digest = self._digest_at(line)
                if not _is_digest(digest) or digest < before:
                    raise UnusableBreachedList(
                        "AUTH_BREACHED_PASSWORDS_FILE must hold sorted lines `SHA1` or"
                        f" `SHA1:count` in hexadecimal; that at byte {line} is out of place"
                    )
                before = digest


def _is_digest(text: bytes) -> bool:
    return len(text) == _DIGITS and all(byte in b"0123456789ABCDEF" for byte in text)
