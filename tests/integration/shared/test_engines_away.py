"""Processes that start while the engines are away: alive, not ready, and ready once these are back.

Nobody starts them a second time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deploy.companion.ports import free_port
from shared.db.migrations import upgrade
from shared.settings import service_database_url
from tests.support.engines import (
    Child,
    PostgresServer,
    ValkeyServer,
    running_postgres,
    running_valkey,
)
from tests.support.tokens import write_identities

ROOT = Path(__file__).parents[3]
CELERY = ("shared.messaging.celery_command", "-A", "services.voice.worker:app")
WORKER = ("worker", "--beat", "--loglevel", "info")


@dataclass(frozen=True, slots=True)
class Started:
    """A process, whether it lives, and whether it does its work."""

    child: Child
    is_alive: Callable[[], bool]
    is_ready: Callable[[], bool]


class Processes:
    """Voice's processes over one pair of engines."""

    def __init__(self, folder: Path, postgres: PostgresServer, valkey: ValkeyServer) -> None:
        keys = write_identities(folder)
        self.postgres, self.valkey = postgres, valkey
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": postgres.url,
            "CACHE_URL": valkey.engine.url(0),
            "BROKER_URL": valkey.engine.url(1),
            "JWKS_URL": "http://127.0.0.1:1/jwks.json",
            "IDENTITY_KEY_FILE": str(keys["voice"]),
            "IDENTITY_TRUST_FILE": str(folder / "trusted.json"),
            "EGRESS_URL": "http://127.0.0.1:1",
        }

    @contextmanager
    def web(self) -> Iterator[tuple[Started, str]]:
        port = free_port()
        internal = free_port(avoid={port})
        words = ("shared.http.serve", "services.voice.app", "--port", str(port))
        url = f"http://127.0.0.1:{internal}"
        with self._running("web", {}, *words, "--internal-port", str(internal)) as child:
            yield (
                Started(
                    child,
                    lambda: status_of(f"{url}/healthz") == 200,
                    lambda: status_of(f"{url}/readyz") == 200,
                ),
                url,
            )

    @contextmanager
    def background(self, name: str, *words: str) -> Iterator[Started]:
        port, file = free_port(), self._folder / f"{name}.ready"
        told = {"METRICS_PORT": str(port), "READY_FILE": str(file)}
        with self._running(name, told, *words) as child:
            yield Started(
                child,
                lambda: status_of(f"http://127.0.0.1:{port}/metrics") == 200,
                file.exists,
            )

    @contextmanager
    def _running(self, name: str, told: Mapping[str, str], *words: str) -> Iterator[Child]:
        environment = {**self._environment, **told}
        log = self._folder / f"{name}.log"
        child = Child([sys.executable, "-m", *words], log=log, environment=environment)
        try:
            yield child
        finally:
            child.stop(seconds=20)


def status_of(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=3, trust_env=False).status_code
    except httpx.HTTPError:
        return None


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with running_postgres(tmp_path) as postgres, running_valkey(tmp_path) as valkey:
        postgres.create_database("companion_voice")
        upgrade("voice", service_database_url(postgres.url, "voice"))
        yield Processes(tmp_path, postgres, valkey)


def test_whoever_starts_without_engines_waits_for_them(processes: Processes) -> None:
    processes.postgres.child.stop()
    processes.valkey.child.stop()
    with ExitStack() as stack:
        web, url = stack.enter_context(processes.web())
        others = [
            stack.enter_context(processes.background("relay", "shared.messaging.relay", "voice")),
            stack.enter_context(
                processes.background("worker", *CELERY, *WORKER, "--concurrency", "1")
            ),
        ]
        started = [web, *others]
        for one in started:
            one.child.wait_until(one.is_alive)
        time.sleep(1)  # For long enough that whoever gives up has done so.
        assert [(one.is_alive(), one.is_ready()) for one in started] == [(True, False)] * 3
        answer = httpx.get(f"{url}/readyz", trust_env=False)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["code"], problem["detail"]) == ("not_ready", "Waiting for database.")
        assert problem["dependencies"]["cache"] == "dependency_unavailable"

        processes.postgres.child.start_again(processes.postgres.engine.is_ready)
        # Speech goes on without Valkey, with limits of its own.
        web.child.wait_until(web.is_ready)
        answer = httpx.get(f"{url}/readyz", trust_env=False)
        assert answer.json() == {
            "status": "ok",
            "dependencies": {
                "database": "ok",
                "cache": "dependency_unavailable",
                "egress": "dependency_unavailable",
            },
        }
        processes.valkey.child.start_again(processes.valkey.engine.is_ready)
        for one in others:
            one.child.wait_until(one.is_ready)
        # Its beat has waited as well: had it ended, the worker would soon do so, too.
        said = others[1].child.log.read_text()
        assert "beat: Starting" in said
        assert "Assertion" not in said
