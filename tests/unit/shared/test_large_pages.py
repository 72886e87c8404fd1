"""Memory in large pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from shared import large_pages
from shared.large_pages import LARGE_PAGE_BYTES, gather_pages, large_pages_in

_PROGRAM = """
import re
from pathlib import Path

from shared.large_pages import gather_pages

def kibibytes(name):
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(rf"^{name}:\\s+(\\d+) kB", text, re.M)[1])

held = [str(number) * 20 for number in range(400_000)]
before = kibibytes("AnonHugePages"), kibibytes("Rss")
made = gather_pages()
print(made, kibibytes("AnonHugePages") - before[0], kibibytes("Rss") - before[1])
assert held == [str(number) * 20 for number in range(400_000)]
"""


def _lines(*places: str) -> list[str]:
    return [f"{place} 00000000 00:00 0 " for place in places]


def test_whole_large_pages_of_private_memory_are_found() -> None:
    maps = [
        "00200000-00600000 rw-p 00000000 00:00 0                          [heap]",
        *_lines("01100000-01700000 rw-p"),  # from 0x1200000 to 0x1600000
        *_lines("02000000-02200000 r--p", "03000000-03200000 rw-s", "04000000-04200000 rwxp"),
        *_lines("05100000-05300000 rw-p"),  # two halves
        "06000000-06400000 rw-p 00000000 fe:00 1234     /usr/lib/libpython3.so with a space",
        "07000000-07400000 rw-p 00000000 00:00 0        [stack]",
    ]
    found = [0x200000, 0x400000, 0x1200000, 0x1400000]
    assert list(large_pages_in(maps)) == found


@pytest.mark.skipif(
    sys.platform != "linux" or tuple(map(int, platform.release().split(".")[:2])) < (6, 1),
    reason="needs Linux 6.1",
)
def test_what_is_held_moves_into_them_and_stays_as_it_is() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    made, gathered, grown = map(int, printed.split())
    if not made:
        pytest.skip("this kernel has no large pages, or none to spare")
    assert gathered * 1024 >= made * LARGE_PAGE_BYTES // 2
    assert gathered * 1024 <= made * LARGE_PAGE_BYTES
    # The unused rest of what was gathered.
    assert grown * 1024 < made * LARGE_PAGE_BYTES // 4


def test_without_proc_all_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_pages, "_MAPS", Path(os.devnull) / "maps")
    assert gather_pages() == 0
