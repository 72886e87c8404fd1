"""How a container answers a probe."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread, Timer

import pytest

from shared import probe


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/healthz", "/metrics") else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), _Ready)
    Thread(target=server.serve_forever, daemon=True).start()
    for name in ("INTERNAL_PORT", "METRICS_PORT"):
        monkeypatch.setattr(probe, name, server.server_port)
    yield
    server.shutdown()
    server.server_close()


def test_a_web_process_may_be_alive_and_not_ready(answering: None) -> None:
    assert probe.is_alive("web")
    assert not probe.is_ready("web")


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "INTERNAL_PORT", 9)
    assert not probe.is_alive("web")
    assert not probe.is_ready("web")


def test_a_file_that_is_not_renewed_is_not_ready(
    answering: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ready"
    monkeypatch.setattr(probe, "READY_FILE", str(file))
    assert not probe.is_ready("relay")
    file.touch()
    assert probe.is_ready("relay")
    long_ago = time.time() - probe.STALE_SECONDS - 1
    os.utime(file, (long_ago, long_ago))
    assert not probe.is_ready("relay")
    assert probe.is_alive("relay")  # it waits for somebody, and goes on by itself


def test_probes_ask_where_the_process_was_told_to_be(
    answering: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("METRICS_PORT", str(probe.METRICS_PORT))
    monkeypatch.setattr(probe, "METRICS_PORT", 9)
    assert probe.is_alive("worker")
    monkeypatch.setenv("READY_FILE", str(tmp_path / "elsewhere"))
    assert not probe.is_ready("worker")
    (tmp_path / "elsewhere").touch()
    assert probe.is_ready("worker")


def test_a_probe_is_answered_by_the_exit_code(
    answering: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    role = tmp_path / "role"
    monkeypatch.setattr(probe, "ROLE_FILE", str(role))
    role.write_text("web")
    for words, code in (
        (["alive"], 0),
        (["health"], 1),
        (["how"], 2),
        ([], 2),
        (["alive", "soon"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            probe.main(words)
        assert ended.value.code == code


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A relay that starts; its file of readiness, which is not there yet."""
    (tmp_path / "role").write_text("relay")
    monkeypatch.setattr(probe, "ROLE_FILE", str(tmp_path / "role"))
    monkeypatch.setattr(probe, "_LOOK_SECONDS", 0.01)
    file = tmp_path / "ready"
    monkeypatch.setenv("READY_FILE", str(file))
    return file


def test_a_process_that_starts_is_waited_for(relay: Path) -> None:
    timer = Timer(0.2, relay.touch)
    timer.start()
    began = time.monotonic()
    assert probe.answer("health", 10)
    assert 0.1 < time.monotonic() - began < 8


def test_an_old_process_is_answered_for_at_once(relay: Path) -> None:
    long_ago = time.time() - 61
    os.utime(probe.ROLE_FILE, (long_ago, long_ago))
    began = time.monotonic()
    assert not probe.answer("health", 60)
    assert time.monotonic() - began < 5


def test_a_process_that_never_becomes_ready_is_waited_for_while_it_is_young(relay: Path) -> None:
    began = time.time()
    assert not probe.answer("health", 0.3)
    assert os.stat(probe.ROLE_FILE).st_mtime + 0.3 <= time.time() < began + 5


def test_where_nothing_was_started_nobody_waits(relay: Path) -> None:
    Path(probe.ROLE_FILE).unlink()
    began = time.monotonic()
    assert not probe.answer("health", 60)
    assert time.monotonic() - began < 5


def test_who_is_not_told_to_wait_does_not(relay: Path) -> None:
    began = time.monotonic()
    assert not probe.answer("health", 0)
    assert time.monotonic() - began < 5


def test_it_runs_as_a_file_and_imports_next_to_nothing() -> None:
    """What each probe of each container costs."""
    program = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program, str(Path(probe.__file__))]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "socket" in loaded
    assert not {"argparse", "pathlib", "dataclasses", "http.client", "shared"} & set(loaded)
