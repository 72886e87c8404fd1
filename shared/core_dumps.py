"""Nothing that was in memory when a process crashed may reach a disk, or a collector of crashes."""

from __future__ import annotations

import contextlib
import resource


def forbid_core_dumps() -> None:
    """For this process and all that it starts."""
    # Not 0, which does not hold where the kernel pipes dumps into a program: at 1 it starts none
    # (core(5)), and a file has no room. Where 0 may not be exceeded it stays.
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
