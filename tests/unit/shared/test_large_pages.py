"""Large pages are asked for where there are any, and an operator's word counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.large_pages import large_pages


@pytest.mark.parametrize("chosen", ["always [madvise] never", "[always] madvise never"])
def test_they_are_asked_for_where_the_kernel_lends_them(tmp_path: Path, chosen: str) -> None:
    kernel = tmp_path / "enabled"
    kernel.write_text(chosen + "\n")
    asked = large_pages({"PATH": "/bin"}, kernel=kernel)
    assert asked == {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    # The interpreter takes both.
    child = [sys.executable, "-c", "print('well')"]
    done = subprocess.run(child, env={**os.environ, **asked}, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"well\n", b"")


def test_elsewhere_nothing_changes(tmp_path: Path) -> None:
    assert large_pages({}, kernel=tmp_path / "missing") == {}
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    assert large_pages({}, kernel=tmp_path / "enabled") == {}


def test_what_an_operator_has_set_is_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "enabled").write_text("[always] madvise never\n")
    given = {"PYTHONMALLOC": "pymalloc", "PATH": "/bin"}
    assert large_pages(given, kernel=tmp_path / "enabled") == {"PYTHONMALLOC": "pymalloc"}
