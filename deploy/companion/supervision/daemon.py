"""supervisord, made so that nothing outlives its parent; run as a module.

Takes the parent's process id and then supervisord's own arguments. Where the kernel offers it
(Linux), supervisord stops everything in good order when companion is gone, and each process gets
TERM when supervisord is gone. Where not, the next `companion up` finds what was left.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

from supervisor import supervisord
from supervisor.options import ServerOptions

from shared.core_dumps import forbid_core_dumps

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 65536


class _Options(ServerOptions):  # type: ignore[misc]  # supervisor has no types
    """supervisord's options, whose hook in each new child also ties it to its parent."""

    def setpgrp(self) -> None:
        super().setpgrp()
        end_with_parent(self.parent)

    parent = os.getpid()


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
    _allow_many_open_files()
    # The egress sees every key, and the engines see all the rest.
    forbid_core_dumps()
    options = _Options()
    options.realize(sys.argv[1:], doc=supervisord.__doc__)
    options.first = True
    options.test = False
    supervisord.go(options)
    options.close_httpservers()
    options.close_logger()


def _allow_many_open_files() -> None:
    # Each stream holds a few connections; the usual limit of 1024 is soon reached.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
