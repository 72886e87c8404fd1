"""Lines that processes write soon after each other are taken to their logs together.

supervisord looks at everything that it runs each time one of them has written something: some 0.2
ms, twice a turn, on the same cores as the turn.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence

from supervisor import poller

GATHER_SECONDS = 0.05
# What supervisord takes from a pipe at once, so that a process which ends leaves nothing behind in
# it; and more than one writes in that time, unless it is in great trouble.
_PIPE_BYTES = 2 << 16


class GatheringPoller(poller.Poller):  # type: ignore[misc]  # supervisor has no types
    """supervisord's poller, which rests for a moment after lines alone had woken it: a command, or
    a process that ends, waits for as long at most."""

    _rests_until = 0.0
    now: Callable[[], float] = staticmethod(time.monotonic)
    sleep: Callable[[float], None] = staticmethod(time.sleep)

    def poll(self, timeout: float) -> tuple[Sequence[int], Sequence[int]]:
        """Which descriptors can be read, and which written; after `timeout` seconds, none."""
        rest = self._rests_until - self.now()
        if rest > 0:
            self.sleep(rest)
        readable, writable = super().poll(timeout)
        if readable and not writable and all(map(_is_pipe, readable)):
            self._rests_until = self.now() + GATHER_SECONDS
        return readable, writable


def widen(pipe: int) -> None:
    """Let a pipe hold what comes meanwhile, where the kernel offers it: beyond that, who writes
    waits."""
    if sys.platform == "linux":
        # Whoever has many pipes may get no larger ones.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:  # it is closed
        return False
