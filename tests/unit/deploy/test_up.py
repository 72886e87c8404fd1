"""`companion up` with the real engines and small stand-ins for the services."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.companion.data_dir import DataDir
from deploy.companion.installation import Installation
from deploy.companion.ports import free_port
from deploy.companion.previous_run import leftovers, running, wait_until_gone
from deploy.companion.running import Running
from deploy.companion.settings import ROOT, Settings
from tests.support.engines import running_postgres

STANDINS = Path(__file__).with_name("standins.py")

PROCFILE = f"""
postgres: $AS_UNPRIVILEGED_USER $POSTGRES -D $POSTGRES_DATA -p $PORT
valkey: $VALKEY $RUN/valkey.conf
chat: python {STANDINS} web --port $PORT --internal-port $INTERNAL_PORT
chat-worker: python {STANDINS} worker
relay: python {STANDINS} worker
simulator: python {STANDINS} broken
gateway: python {STANDINS} gateway --port $PORT
"""


class Terminal:
    """A person who runs `companion` in a terminal."""

    def __init__(self, folder: Path) -> None:
        self._procfile = folder / "Procfile"
        self._procfile.write_text(PROCFILE)
        self._environment = {
            **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")},
            "COMPANION_DATA_DIR": str(folder / "data"),
            "COMPANION_PROCFILE": str(self._procfile),
            "PORT": str(free_port()),
        }
        self.installation = Installation.open(Settings.from_environment(self._environment))
        self.data: DataDir = self.installation.data
        self._output = folder / "output"
        self._started: list[subprocess.Popen[bytes]] = []

    def replace(self, name: str, command: str) -> None:
        lines = [
            f"{name}: {command}" if line.startswith(f"{name}:") else line
            for line in PROCFILE.splitlines()
        ]
        self._procfile.write_text("\n".join(lines))

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.companion", *words],
            cwd=ROOT,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def set(self, **environment: str) -> None:
        self._environment |= environment

    def forget(self, *names: str) -> None:
        for name in names:
            del self._environment[name]

    def up(self, *words: str) -> subprocess.Popen[bytes]:
        """Start and wait until it says that it is ready."""
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploy.companion", "up", *words],
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        self._started.append(process)
        self.wait(lambda: "Ready in" in self.output or process.poll() is not None)
        assert "Ready in" in self.output, self.output
        return process

    @property
    def output(self) -> str:
        return self._output.read_text()

    def running(self) -> Running:
        return Running.require(self.installation)

    def wait(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
                process.wait(40)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with contextlib.closing(Terminal(tmp_path)) as terminal:
        yield terminal


def test_up_status_and_ctrl_c(terminal: Terminal) -> None:
    process = terminal.up()
    steps = [line.split()[1] for line in terminal.output.splitlines() if "✓" in line]
    assert steps.index("valkey") < steps.index("chat") < steps.index("gateway")
    assert steps[-2:] == ["gateway", "health"]
    assert "simulator" not in steps

    # A shell that knows nothing of the port sees the run as it was started.
    status = terminal.run("status", "--json", PORT="1")
    assert status.returncode == 0, status.stdout
    rows = {row["name"]: row for row in json.loads(status.stdout)["processes"]}
    assert set(rows) == {"postgres", "valkey", "chat", "chat-worker", "relay", "gateway"}
    assert all(row["ready"] and row["pid"] for row in rows.values())

    second = terminal.run("up")
    assert second.returncode == 1
    assert f"already runs with {terminal.data.root} (pid {process.pid}" in second.stderr

    ports = terminal.installation.ports()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert leftovers(terminal.data) == []
    assert terminal.run("status").returncode == 3

    again = terminal.up()
    assert terminal.installation.ports() == ports
    assert "secrets" not in terminal.output
    assert terminal.run("down").returncode == 0
    assert again.wait(5) == 0


def test_a_process_that_dies_is_started_again_without_its_orphans(terminal: Terminal) -> None:
    terminal.up()
    running = terminal.running()
    worker = running.pid_of("chat-worker")
    [child] = psutil.Process(worker).children()
    running.kill("chat-worker")
    terminal.wait(lambda: running.pid_of("chat-worker") not in (0, worker))
    running.wait_for("chat-worker")
    assert wait_until_gone([child], 5) == []
    assert "chat-worker is being started again" in terminal.output


def test_killing_companion_stops_everything_and_the_next_start_works(terminal: Terminal) -> None:
    process = terminal.up()
    members = leftovers(terminal.data)
    assert len(members) > 6
    process.kill()
    process.wait()
    terminal.up()
    assert wait_until_gone(members, 1) == []


def test_killing_supervisord_ends_the_run_with_a_sentence(terminal: Terminal) -> None:
    process = terminal.up()
    members = leftovers(terminal.data)
    os.kill(int((terminal.data.run / "supervisord.pid").read_text()), signal.SIGKILL)
    assert process.wait(30) == 1
    assert "supervisord ended unexpectedly" in terminal.output
    assert wait_until_gone(members, 1) == []


def test_a_process_that_cannot_start_is_shown_with_its_last_words(terminal: Terminal) -> None:
    terminal.replace("relay", f"python {STANDINS} broken")
    failed = terminal.run("up")
    assert failed.returncode == 1
    assert "relay ended while it started" in failed.stderr
    assert "I was born broken" in failed.stderr
    assert str(terminal.data.log("relay")) in failed.stderr
    assert leftovers(terminal.data) == []


def test_a_process_that_refuses_its_settings_late_is_told_at_once(terminal: Terminal) -> None:
    """After so long that supervisord takes it for started, and would start it again and again."""
    terminal.replace("relay", f"python {STANDINS} refusing")
    began = time.monotonic()
    failed = terminal.run("up")
    assert failed.returncode == 1
    assert "relay ended while it started" in failed.stderr
    assert "CHAT_SETTING: it should be less" in failed.stderr
    assert terminal.data.log("relay").read_text().count("CHAT_SETTING") == 1
    assert time.monotonic() - began < terminal.installation.settings.start_seconds / 2


def test_a_lost_keyring_is_told_and_everything_else_starts(terminal: Terminal) -> None:
    process = terminal.up()
    process.terminate()
    assert process.wait(20) == 0
    terminal.data.keyring.unlink()
    terminal.up()
    assert "keyvault stays sealed" in terminal.output
    assert not terminal.data.keyring.exists()


def test_another_shell_sees_the_settings_that_the_run_was_started_with(terminal: Terminal) -> None:
    mine = {"CHAT_RETRYS": "3", "CHAT_DRAIN_SECONDS": "7", "AWS_SECRET_ACCESS_KEY": "marked-secret"}
    terminal.set(**mine, OTEL_SERVICE_NAMESPACE="ours", METRICS_PORT="9")
    terminal.up()
    assert "without effect here: METRICS_PORT." in terminal.output
    terminal.forget(*mine, "OTEL_SERVICE_NAMESPACE", "METRICS_PORT")
    # What this shell says beside is not of that run.
    printed = terminal.run("env", "chat", CHAT_RETRIES="5").stdout
    for line in ("CHAT_RETRYS=3", "CHAT_DRAIN_SECONDS=7", "OTEL_SERVICE_NAMESPACE=ours"):
        assert f"export {line}" in printed
    assert "CHAT_RETRIES" not in printed
    doctor = terminal.run("doctor").stdout
    assert "Nobody reads CHAT_RETRYS (CHAT_RETRIES?)." in doctor
    assert "without effect here: METRICS_PORT." in doctor
    record = terminal.data.run / "companion.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    told = terminal.output + doctor + repr(running(terminal.data)) + record.read_text()
    assert "marked-secret" not in told


def test_env_prints_what_one_process_gets(terminal: Terminal) -> None:
    terminal.up()
    printed = terminal.run("env", "chat").stdout
    assert f"export DATABASE_URL={terminal.installation.addresses().database_url}" in printed
    assert "KEYRING" not in printed
    assert "# " in printed


def test_follow_shows_the_logs_as_they_grow(terminal: Terminal) -> None:
    terminal.up("--follow")
    assert "postgres |" in terminal.output
    assert "database system is ready to accept connections" in terminal.output


def test_an_outside_server_that_holds_a_vault_gets_no_new_keyring(
    terminal: Terminal, tmp_path: Path
) -> None:
    with running_postgres(tmp_path) as server:
        server.create_database("companion_keyvault")
        terminal.set(DATABASE_URL=server.url)
        terminal.up()
        assert "postgres " not in terminal.output
        assert "keyvault stays sealed" in terminal.output
        assert not terminal.data.keyring.exists()
        assert not terminal.data.postgres.exists()
