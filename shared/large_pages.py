"""Memory in large pages for a web process, where the kernel lends them on request.

A turn passes through code and objects all over the process's memory, and much of what it costs is
the processor finding out where they are. The interpreter's own allocator asks for small pages
alone; glibc's asks for large ones when it is told to, which both have to be before they start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_ASKED_FOR = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def large_pages(given: Mapping[str, str], *, kernel: Path = _KERNEL) -> dict[str, str]:
    """Variables of a process that is about to start. Where its operator has set one of them,
    `given` holds it, and all are the operator's."""
    if given.keys() & _ASKED_FOR.keys():
        return {name: given[name] for name in _ASKED_FOR if name in given}
    try:
        chosen = kernel.read_text("ascii")
    except OSError:
        return {}  # another system
    # With small pages all the same, glibc's allocator is no better than the interpreter's.
    return {} if "[never]" in chosen else dict(_ASKED_FOR)
