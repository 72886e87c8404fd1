"""What a container runs, and how it answers a probe."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shared import launch


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
        monkeypatch.setattr(launch, name, server.server_port)
    yield
    server.shutdown()
    server.server_close()


def test_a_web_process_serves_every_address() -> None:
    run = launch.launch_of("web", "chat", tier=None, concurrency=1)
    assert run.command[:3] == ("-m", "shared.http.serve", "services.chat.app")
    assert run.command[run.command.index("--host") + 1] == "0.0.0.0"


def test_a_worker_of_a_tier_is_told_so_and_ends_softly() -> None:
    run = launch.launch_of("worker", "billing", tier="pro", concurrency=3)
    assert run.environment["WORKER_TIER"] == "pro"
    assert run.environment["REMAP_SIGTERM"] == "SIGQUIT"
    assert run.command[run.command.index("--concurrency") + 1] == "3"
    whole = launch.launch_of("worker", "billing", tier=None, concurrency=1)
    assert "WORKER_TIER" not in whole.environment


def test_a_workers_children_count_where_their_parent_looks(tmp_path: Path) -> None:
    run = launch.launch_of("worker", "billing", tier=None, concurrency=2)
    assert run.environment["PROMETHEUS_MULTIPROC_DIR"] == str(launch.METRICS_DIRECTORY)
    assert (
        "PROMETHEUS_MULTIPROC_DIR"
        not in launch.launch_of("beat", "billing", tier=None, concurrency=1).environment
    )
    # What the processes before this one counted is over.
    directory = tmp_path / "metrics"
    launch._empty(directory)
    (directory / "counter_12.db").touch()
    launch._empty(directory)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("role", ["beat", "relay"])
def test_background_processes_show_metrics_and_a_file(role: str) -> None:
    environment = launch.launch_of(role, "auth", tier=None, concurrency=1).environment
    assert environment["METRICS_PORT"] == "9000"
    assert environment["READY_FILE"] == str(launch.READY_FILE)


def test_a_web_process_may_be_alive_and_not_ready(answering: None) -> None:
    assert launch.is_alive("web")
    assert not launch.is_ready("web")


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "INTERNAL_PORT", 9)
    assert not launch.is_alive("web")
    assert not launch.is_ready("web")


def test_a_file_that_is_not_renewed_is_not_ready(
    answering: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ready"
    monkeypatch.setattr(launch, "READY_FILE", file)
    assert not launch.is_ready("relay")
    file.touch()
    assert launch.is_ready("relay")
    long_ago = time.time() - launch.STALE_SECONDS - 1
    os.utime(file, (long_ago, long_ago))
    assert not launch.is_ready("relay")
    assert launch.is_alive("relay")  # it waits for somebody, and goes on by itself


def test_probes_ask_where_the_process_was_told_to_be(
    answering: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("METRICS_PORT", str(launch.METRICS_PORT))
    monkeypatch.setattr(launch, "METRICS_PORT", 9)
    assert launch.is_alive("worker")
    monkeypatch.setenv("READY_FILE", str(tmp_path / "elsewhere"))
    assert not launch.is_ready("worker")
    (tmp_path / "elsewhere").touch()
    assert launch.is_ready("worker")


def test_what_is_set_by_hand_wins_unless_it_is_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run: dict[str, str] = {}
    monkeypatch.setattr(os, "execve", lambda *given: run.update(given[2]))
    monkeypatch.setattr(launch, "ROLE_FILE", tmp_path / "role")
    ready = tmp_path / "ready"
    ready.touch()
    for name, value in {
        "COMPANION_SERVICE": "auth",
        "READY_FILE": str(ready),
        "METRICS_PORT": "9001",
        "METRICS_HOST": "",  # as compose passes on what nobody has set
    }.items():
        monkeypatch.setenv(name, value)
    launch.main(["beat"])
    assert (run["METRICS_HOST"], run["METRICS_PORT"]) == (launch.EVERY_ADDRESS, "9001")
    assert run["READY_FILE"] == str(ready)
    assert not ready.exists()  # who is not yet ready must not look so


def test_a_container_without_a_service_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPANION_SERVICE", raising=False)
    with pytest.raises(SystemExit) as ended:
        launch.main(["web"])
    assert ended.value.code == 2
    assert "COMPANION_SERVICE is not set" in capsys.readouterr().err
