"""A supervisord of our own comes to its end in good order, also when it was told to before us."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from supervisor.loggers import LevelsByName, LogRecord

from deploy.companion.console import Console
from deploy.companion.errors import CompanionError
from deploy.companion.programs import Role
from deploy.companion.supervision.client import SupervisorGone
from deploy.companion.supervision.configuration import Program, Supervisor
from deploy.companion.supervision.daemon import PatientLog
from deploy.companion.supervision.session import Session
from deploy.companion.watching import Watch

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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_neither_supervisord_nor_what_it_runs(tmp_path: Path) -> None:
    for name in ("s.log", "supervisord-start.log", "talker.log"):
        (tmp_path / name).symlink_to("/dev/full")
    note = tmp_path / "note"
    talks = 'while :; do echo something; echo x >> "$0"; sleep 0.02; done'
    command = ["sh", "-c", talks, str(note)]
    files = Supervisor(tmp_path / "s.sock", tmp_path / "s.pid", tmp_path / "s.log", tmp_path)
    program = Program(Role.of("talker"), command, tmp_path / "talker.log", {})
    session = Session(files, {"talker": program})
    (tmp_path / "s.conf").write_text(session.configuration)
    session.open(tmp_path / "s.conf", dict(os.environ))
    try:
        session.client.start(program.address)
        deadline = time.monotonic() + 5
        # More than a pipe holds that nobody reads any more would not be written.
        while not note.exists() or note.stat().st_size < 40:
            assert session.is_alive and time.monotonic() < deadline
            time.sleep(0.02)
        assert session.client.processes()["talker"].is_up
    finally:
        session.close()


def test_the_last_that_a_process_wrote_is_in_its_log(tmp_path: Path) -> None:
    """Lines that come soon after each other are read together, and its end comes with them."""
    talks = "yes 0123456789 2>/dev/null | head -c 120000; echo the end"
    files = Supervisor(tmp_path / "s.sock", tmp_path / "s.pid", tmp_path / "s.log", tmp_path)
    program = Program(Role.of("talker"), ["sh", "-c", talks], tmp_path / "talker.log", {})
    session = Session(files, {"talker": program})
    (tmp_path / "s.conf").write_text(session.configuration)
    session.open(tmp_path / "s.conf", dict(os.environ))
    try:
        session.client.start(program.address)
        deadline = time.monotonic() + 5
        while b"the end" not in (written := program.log.read_bytes()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first, _, _ = written.partition(b"the end")
        assert len(first) == 120_000
    finally:
        session.close()


class _Disk(io.RawIOBase):
    """A file on a disk that is full for a while."""

    def __init__(self) -> None:
        self.is_full = False
        self.holds = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.holds += bytes(data)
        return len(data)


def test_a_log_goes_on_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PatientLog(str(tmp_path / "a.log"), maxBytes=1_000_000)
    log.stream.close()
    disk = _Disk()
    log.stream = io.BufferedWriter(disk, 16)
    # supervisord's own output is on the same disk.
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(log.stream, line_buffering=True))
    said = LogRecord(LevelsByName.INFO, b"something\n")
    log.emit(said)
    disk.is_full = True
    for _ in range(5):
        log.emit(said)
    disk.is_full = False
    log.emit(LogRecord(LevelsByName.INFO, b"the end\n"))
    assert disk.holds.startswith(b"something\n")
    assert disk.holds.endswith(b"the end\n")
    assert b"Traceback" not in disk.holds


def test_a_log_whose_next_file_could_not_be_made_goes_on(tmp_path: Path) -> None:
    log = PatientLog(str(tmp_path / "a.log"), maxBytes=1_000_000)
    log.stream.close()
    log.emit(LogRecord(LevelsByName.INFO, b"again\n"))
    log.close()
    assert (tmp_path / "a.log").read_bytes() == b"again\n"


def test_who_finds_supervisord_gone_is_told_where_it_says_why(session: Session) -> None:
    process = session._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(CompanionError) as failure:
        Watch(session, Console(), lambda _: None).forever(lambda: None)
    assert "supervisord-start.log" in failure.value.remedy
    assert "the disk is full" in failure.value.remedy
