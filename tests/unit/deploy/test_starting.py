"""Whether what answers at a port is the process that was started for it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from deploy.companion.console import Console
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.programs import Role
from deploy.companion.settings import Settings
from deploy.companion.starting import start_together
from deploy.companion.supervision.client import ProcessState, SupervisorClient
from deploy.companion.supervision.configuration import Program


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which this process answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A process that listens nowhere."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


class Supervisor:
    """Tells these states of one process, one after the other; the last one for ever."""

    def __init__(self, pid: int, *states: str, name: str = "gateway") -> None:
        self.name = name
        self._pid = pid
        self._states = list(states)

    def start(self, _: str) -> None:
        pass

    def processes(self) -> dict[str, ProcessState]:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return {self.name: ProcessState(self.name, "edge", state, self._pid, 0, "")}


def start(folder: Path, supervisor: Supervisor, **said: str) -> str:
    """What the console says of a process that is started."""
    name = supervisor.name
    procfile = folder / "Procfile"
    procfile.write_text(f"{name}: {name} --port $PORT\n")
    told = {"COMPANION_DATA_DIR": str(folder), "COMPANION_PROCFILE": str(procfile), **said}
    installation = Installation.as_said(Settings.from_environment(told))
    program = Program(Role.of(name), [name], folder / f"{name}.log", {})
    output = io.StringIO()
    client = cast(SupervisorClient, supervisor)
    start_together([program], client, installation, Console(output), lambda: None)
    return output.getvalue()


def test_a_stranger_at_its_port_is_not_taken_for_the_gateway(
    tmp_path: Path, port: int, silent: int
) -> None:
    with pytest.raises(CompanionError) as refused:
        start(tmp_path, Supervisor(silent, "STARTING", "STARTING", "BACKOFF"), PORT=str(port))
    said = f"gateway did not get its port: {port} is taken by "
    assert refused.value.message.startswith(said)
    assert "PORT=" in refused.value.remedy


def test_a_gateway_that_has_its_port_works(tmp_path: Path, port: int) -> None:
    assert "gateway" in start(tmp_path, Supervisor(os.getpid(), "STARTING"), PORT=str(port))


def test_a_worker_that_takes_long_is_not_waited_for_and_nothing_is_lost(
    tmp_path: Path, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    ticks = iter(range(0, 1000, 3))
    monkeypatch.setattr("time.monotonic", lambda: next(ticks))
    said = start(tmp_path, Supervisor(silent, "STARTING", name="chat-worker"), PORT="1")
    assert said == "  ! chat-worker is still starting; what it is to do waits for it.\n"


def test_the_operator_says_how_long_a_start_may_take(
    tmp_path: Path, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    ticks = iter(range(0, 1000, 3))
    monkeypatch.setattr("time.monotonic", lambda: next(ticks))
    with pytest.raises(CompanionError, match=r"gateway is not ready after 1[23] s") as refused:
        start(tmp_path, Supervisor(silent, "STARTING"), PORT="1", COMPANION_START_SECONDS="10")
    assert "COMPANION_START_SECONDS" in refused.value.remedy
    for wrong in ("0", "-1", "9", "3601", "90.5", "٣٠", "9" * 5000):
        with pytest.raises(CompanionError, match="COMPANION_START_SECONDS"):
            Settings.from_environment({"COMPANION_START_SECONDS": wrong})
