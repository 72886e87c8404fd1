"""The wishes of whoever started us: Ctrl-C, TERM, or a terminal that closes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopAsked(BaseException):
    """Somebody wants us to stop. Not an Exception, so that nothing takes it for a failure."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise StopAsked at the first signal; the ones after it are ignored, as stopping goes on."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        ignore_signals()
        raise StopAsked

    before = [signal.signal(number, ask) for number in _NUMBERS]
    try:
        yield
    finally:
        for number, handler in zip(_NUMBERS, before, strict=True):
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Let nothing interrupt what follows."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
