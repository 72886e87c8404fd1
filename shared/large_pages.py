"""What a process holds once it is up, gathered into large pages, where the kernel offers it.

A program of many small objects touches more pages than a processor remembers the addresses of.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

LARGE_PAGE_BYTES = 2 << 20
"""On x86-64 and, with pages of 4 KiB, on arm64."""

_MADV_COLLAPSE = 25  # Linux 6.1: https://man7.org/linux/man-pages/man2/madvise.2.html
_MAPS = Path("/proc/self/maps")


def gather_pages() -> int:
    """Put what is in memory now into large pages; answers how many of them were made. It stays
    where it is and takes no more than it took, but for the unused rest of a large page.

    None where the kernel can't (before Linux 6.1, other systems, no 2 MiB in a row to be had): then
    all is as before.
    """
    if not sys.platform.startswith("linux"):
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    try:
        maps = _MAPS.read_text()
    except OSError:  # no /proc
        return 0
    pages = list(large_pages_in(maps.splitlines()))
    return sum(madvise(page, LARGE_PAGE_BYTES, _MADV_COLLAPSE) == 0 for page in pages)


def large_pages_in(maps: Iterable[str]) -> Iterator[int]:
    """Addresses of large pages within private writable memory that is no file's, out of lines of
    `/proc/self/maps`: https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html"""
    for line in maps:
        place, permissions, _offset, _device, _inode, *name = line.split()
        if permissions != "rw-p" or name not in ([], ["[heap]"]):
            continue
        begin, end = (int(address, 16) for address in place.split("-"))
        yield from range(
            -(-begin // LARGE_PAGE_BYTES) * LARGE_PAGE_BYTES,
            end - LARGE_PAGE_BYTES + 1,
            LARGE_PAGE_BYTES,
        )
