"""supervisord, made so that nothing outlives its parent; run as a module.

Takes the parent's process id and then supervisord's own arguments. Where the kernel offers it
(Linux), supervisord stops everything in good order when companion is gone, and each process gets
TERM when supervisord is gone. Where not, the next `companion up` finds what was left.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from typing import Any

from supervisor import loggers, supervisord
from supervisor.options import ServerOptions

from deploy.companion.supervision import open_files
from deploy.companion.supervision.gathering import GatheringPoller, widen
from shared.core_dumps import forbid_core_dumps

_PR_SET_PDEATHSIG = 1


class _Options(ServerOptions):  # type: ignore[misc]  # supervisor has no types
    """supervisord's options, whose hook in each new child also ties it to its parent."""

    def __init__(self) -> None:
        super().__init__()
        self.poller = GatheringPoller(self)

    def make_pipes(self, stderr: bool = True) -> dict[str, int | None]:
        pipes: dict[str, int | None] = super().make_pipes(stderr)
        for name in ("stdout", "stderr"):
            if (end := pipes[name]) is not None:
                widen(end)
        return pipes

    def setpgrp(self) -> None:
        super().setpgrp()
        end_with_parent(self.parent)

    parent = os.getpid()


class PatientLog(loggers.RotatingFileHandler):  # type: ignore[misc]  # supervisor has no types
    """A log that does without what a full disk does not take, and goes on once there is room.

    supervisor's own raises a second time while it tells of that, which ends supervisord and with it
    all that it runs.
    """

    stream: Any  # the base class sets it to None first

    def emit(self, record: Any) -> None:
        with contextlib.suppress(OSError):
            if self.stream.closed:
                # There was no room to begin the next file.
                self.stream = open(self.baseFilename, self.mode)  # noqa: SIM115 - as the base class
            super().emit(record)

    def handleError(self) -> None:  # noqa: N802 - the base class's name
        # To stderr, which is a file on the same disk, goes only what is no trouble of the disk's.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def end_with_parent(parent: int) -> None:
    """Ask the kernel for TERM when the parent dies, and exit if it has done so meanwhile."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Run supervisord in this process until it is told to stop."""
    end_with_parent(int(sys.argv.pop(1)))
    # Logs and whatever a process writes are for this user alone.
    os.umask(0o077)
    open_files.allow()
    # The egress sees every key, and the engines see all the rest.
    forbid_core_dumps()
    # Under this name supervisor looks for it; all our logs rotate.
    loggers.RotatingFileHandler = PatientLog
    options = _Options()
    options.realize(sys.argv[1:], doc=supervisord.__doc__)
    options.first = True
    options.test = False
    supervisord.go(options)
    options.close_httpservers()
    options.close_logger()


if __name__ == "__main__":
    main()
