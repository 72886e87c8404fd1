"""What a person sees: one line for each step, then silence."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

_GREEN, _YELLOW, _RED, _PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[0m"


class Console:
    """Writes lines to a terminal, or plainly to a file."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._colours = self._out.isatty()

    def say(self, text: str = "") -> None:
        """One line."""
        # A terminal that was closed must not keep us from stopping what we started.
        with contextlib.suppress(OSError):
            print(text, file=self._out, flush=True)

    def done(self, step: str, seconds: float) -> None:
        """A step that went well, and how long it took."""
        self.say(f"  {self._coloured('✓', _GREEN)} {step:<18}{seconds:6.2f} s")

    def warn(self, text: str) -> None:
        """Something a person should know, which does not stop us."""
        self.say(f"  {self._coloured('!', _YELLOW)} {text}")

    def mark(self, level: str) -> str:
        """A word in the colour of what it means."""
        colours = {"ok": _GREEN, "ready": _GREEN, "warning": _YELLOW}
        return self._coloured(level, colours.get(level, _RED))

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text
