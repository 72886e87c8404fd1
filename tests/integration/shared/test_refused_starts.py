"""What can't start as it was set ends with one sentence, in whichever role."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tokens import write_identities

ROOT = Path(__file__).parents[3]
CONFIGURATION = 78  # EX_CONFIG
SECRET = "s3cret-of-ada"
WEB = ("shared.http.serve", "services.chat.app", "--port")
CELERY = ("shared.messaging.celery_command", "-A", "services.voice.worker:app")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    keys = write_identities(tmp_path)
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"postgresql://ada:{SECRET}@127.0.0.1:1",
        "CACHE_URL": f"redis://:{SECRET}@127.0.0.1:1/0",
        "BROKER_URL": f"redis://:{SECRET}@127.0.0.1:1/1",
        "JWKS_URL": "http://127.0.0.1:1/jwks.json",
        "IDENTITY_KEY_FILE": str(keys["chat"]),
        "IDENTITY_TRUST_FILE": str(tmp_path / "trusted.json"),
        "EGRESS_URL": "http://127.0.0.1:1",
    }


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refusal(environment: dict[str, str], *words: str) -> str:
    """The last line that the process wrote before it ended."""
    run = subprocess.run(
        [sys.executable, "-m", *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == CONFIGURATION, run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    assert SECRET not in run.stderr + run.stdout
    return run.stderr.strip().splitlines()[-1]


def test_a_web_process_names_all_that_is_missing_or_wrong(environment: dict[str, str]) -> None:
    del environment["DATABASE_URL"], environment["EGRESS_URL"]
    environment["LOG_LEVEL"] = "loud"
    sentence = refusal(environment, *WEB, "0", "--internal-port", "0")
    assert sentence.startswith("DATABASE_URL and EGRESS_URL are missing; LOG_LEVEL: it should be ")


def test_a_web_process_names_the_port_that_is_taken(
    environment: dict[str, str], taken_port: int
) -> None:
    sentence = refusal(environment, *WEB, "0", "--internal-port", str(taken_port))
    assert sentence == (
        f"--internal-port: nobody can listen on 127.0.0.1:{taken_port} (Address already in use)."
    )


@pytest.mark.parametrize("role", [("worker", "--concurrency", "1"), ("beat", "--pidfile=")])
def test_a_worker_and_a_beat_name_the_file_that_can_not_be_used(
    environment: dict[str, str], tmp_path: Path, role: tuple[str, ...]
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text(SECRET)
    environment["IDENTITY_KEY_FILE"] = str(broken)
    sentence = refusal(environment, *CELERY, *role)
    reason = "not a private key of EC P-256"
    assert sentence == f"IDENTITY_KEY_FILE: {broken} can't be used: {reason}."


@pytest.mark.parametrize("role", [("worker", "--concurrency", "1"), ("beat", "--pidfile=")])
def test_a_worker_and_a_beat_name_the_port_that_is_taken(
    environment: dict[str, str], taken_port: int, role: tuple[str, ...]
) -> None:
    environment["METRICS_PORT"] = str(taken_port)
    assert refusal(environment, *CELERY, *role) == (
        f"METRICS_PORT: nobody can listen on 127.0.0.1:{taken_port} (Address already in use)."
    )


def test_a_relay_and_a_preparation_name_the_file_of_a_secret(
    environment: dict[str, str], tmp_path: Path
) -> None:
    del environment["DATABASE_URL"]
    absent = tmp_path / "database_url"
    environment["DATABASE_URL_FILE"] = str(absent)
    for module in ("relay", "prepare"):
        sentence = refusal(environment, f"shared.messaging.{module}", "chat")
        assert sentence == f"DATABASE_URL_FILE: {absent} can't be read (No such file or directory)."
