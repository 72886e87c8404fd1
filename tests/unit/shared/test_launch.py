"""What a container runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared import launch
from shared.probe import READY_FILE


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
    assert environment["READY_FILE"] == READY_FILE


def test_what_is_set_by_hand_wins_unless_it_is_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run: dict[str, str] = {}
    monkeypatch.setattr(os, "execve", lambda *given: run.update(given[2]))
    monkeypatch.setattr(launch, "ROLE_FILE", str(tmp_path / "role"))
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
