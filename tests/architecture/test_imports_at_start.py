"""What no process imports when it starts: thirty of them start on two cores at once, and imports
are most of what that takes. Whoever needs one of these packages after all imports it where it is
used, or makes the list of its role shorter here."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVICES = ("auth", "billing", "chat", "keyvault", "voice")

WEB = {"alembic", "celery", "psycopg2", "sqlalchemy", "tests"}
WORKER = {
    *("alembic", "click_repl", "fastapi", "prompt_toolkit", "psycopg2", "sqlalchemy", "starlette"),
    *("tests", "uvicorn"),
}
RELAY = {"aiohttp", "alembic", "click_repl", "fastapi", "httpx", "opentelemetry", "redis", "tests"}
PREPARE = {"aiohttp", "celery", "fastapi", "httpx", "opentelemetry", "redis", "tests"}
LAUNCH = {"prometheus_client", "pydantic", "structlog", "tests"}

_SAY = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"


def imported(*modules: str) -> set[str]:
    """The packages that a process has which imported these modules alone."""
    program = "import " + ", ".join(modules) + _SAY
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("service", SERVICES)
def test_a_web_process(service: str) -> None:
    found = imported("shared.http.serve", f"services.{service}.app")
    assert "fastapi" in found, "the search itself must find something"
    assert not found & WEB


@pytest.mark.parametrize("service", SERVICES)
def test_a_worker_and_a_clock(service: str) -> None:
    # Not `worker.py` itself, which wants its settings.
    parts = [f"services.{service}.{part}" for part in ("settings", "tasks", "wiring")]
    celery = ["shared.messaging.celery_app", "shared.messaging.celery_command"]
    found = imported(*parts, *celery, "celery.bin.worker", "celery.bin.beat")
    assert "celery" in found, "the search itself must find something"
    assert not found & WORKER


def test_a_relay() -> None:
    found = imported("shared.messaging.relay")
    assert "sqlalchemy" in found, "the search itself must find something"
    assert not found & RELAY


def test_a_job_of_preparation() -> None:
    found = imported("shared.messaging.prepare")
    assert "sqlalchemy" in found, "the search itself must find something"
    assert not found & PREPARE


def test_what_becomes_each_of_them() -> None:
    found = imported("shared.launch")
    assert "argparse" in found, "the search itself must find something"
    assert not found & LAUNCH
