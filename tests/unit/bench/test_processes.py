"""Whose time a meter counts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.processes import Meter

_WORK = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ninput()"


@contextmanager
def _worked() -> Iterator[int]:
    """The id of a process that has used a fifth of a second, and lives."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _WORK], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        yield child.pid
        child.communicate(b"\n")


def test_who_is_started_under_way_counts_whole() -> None:
    meter = Meter({"all": os.getpid()})
    with _worked():
        assert meter.spent()["all"] >= 0.2


def test_what_was_used_before_does_not_count() -> None:
    with _worked() as pid:
        assert Meter({"worker": pid}).spent()["worker"] < 0.1


def test_a_group_that_another_one_started_counts_once() -> None:
    with _worked() as pid:
        meter = Meter({"client": os.getpid(), "server": pid})
        with _worked():
            spent = meter.spent()
            resident = meter.resident()
            alone = Meter({"all": os.getpid()}).resident()["all"]
    assert spent["client"] >= 0.2
    assert spent["server"] < 0.1
    assert resident["client"] + resident["server"] <= alone * 1.05
    assert 0 < resident["server"] < resident["client"]
