"""The tests' own databases in memory: what a killed session leaves there, the next takes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.companion.settings import ROOT
from tests.support import engines

SESSION = """
import sys
from pathlib import Path
from tests.support import engines
engines._IN_MEMORY, engines._ROOM_BYTES = Path(sys.argv[1]), 0
with engines.quick_folder(Path("/nowhere")) as folder:
    (folder / "database").mkdir()
    (folder / "database" / "rows").write_text("1")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(engines, "_IN_MEMORY", folder)
    monkeypatch.setattr(engines, "_ROOM_BYTES", 0)
    return folder


@contextmanager
def another_session(memory: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, memory],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        yield session, Path(session.stdout.readline().strip())


def test_what_a_killed_session_left_is_taken_away_and_what_is_in_use_is_not(
    memory: Path, tmp_path: Path
) -> None:
    foreign = memory / "companion-test-of-somebody"
    foreign.mkdir()
    with another_session(memory) as (killed, left), another_session(memory) as (other, in_use):
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "database" / "rows").read_text() == "1"
        with engines.quick_folder(tmp_path) as mine:
            assert set(memory.iterdir()) == {foreign, in_use, mine}
            assert (in_use / "database" / "rows").read_text() == "1"
        other.communicate("")
    assert set(memory.iterdir()) == {foreign}


def test_room_that_the_dead_took_counts_as_free(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_session(memory) as (killed, left):
        killed.send_signal(signal.SIGKILL)
    monkeypatch.setattr(engines, "_ROOM_BYTES", 1 << 60)
    with engines.quick_folder(tmp_path) as folder:
        assert folder == tmp_path
    assert not left.exists()
    monkeypatch.setattr(engines, "_IN_MEMORY", memory / "none")
    with engines.quick_folder(tmp_path) as folder:
        assert folder == tmp_path
