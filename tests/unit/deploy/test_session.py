"""A supervisord of our own comes to its end in good order, also when it was told to before us."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.companion.programs import Role
from deploy.companion.supervision.client import SupervisorGone
from deploy.companion.supervision.configuration import Program, Supervisor
from deploy.companion.supervision.session import Session

# Takes a while to end, and notes that it could.
SLOW = (
    """trap 'sleep 0.6; echo ended > "$0"; exit' TERM; echo began > "$0"; """
    "while :; do sleep 0.05; done"
)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


@pytest.fixture
def session(tmp_path: Path, note: Path) -> Iterator[Session]:
    files = Supervisor(tmp_path / "s.sock", tmp_path / "s.pid", tmp_path / "s.log", tmp_path)
    program = Program(Role.of("slow"), ["sh", "-c", SLOW, str(note)], tmp_path / "slow.log", {})
    session = Session(files, {"slow": program})
    configuration = tmp_path / "s.conf"
    configuration.write_text(session.configuration)
    session.open(configuration, dict(os.environ))
    session.client.start(program.address)
    deadline = time.monotonic() + 5
    while not note.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield session
    session.close()


def test_processes_end_before_their_supervisor(session: Session, note: Path) -> None:
    session.close()
    assert not session.is_alive
    assert note.read_text() == "ended\n"


def test_a_supervisor_that_is_stopping_already_is_waited_for(session: Session, note: Path) -> None:
    """systemd tells every process of a unit to end, at the same moment."""
    process = session._process
    assert process is not None
    os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 5
    while True:
        try:
            session.client.wake()
        except SupervisorGone:
            break
        assert time.monotonic() < deadline
    assert process.poll() is None
    with pytest.raises(SupervisorGone):
        session.client.processes()
    session.close()
    assert not session.is_alive
    assert note.read_text() == "ended\n"
