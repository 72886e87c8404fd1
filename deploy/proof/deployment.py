"""The deployment under proof: `docker-compose.yml` with simulated vendors, a project of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.companion.errors import CompanionError
from deploy.companion.ports import free_port
from deploy.companion.settings import ROOT
from deploy.proof.compose import Compose
from deploy.proof.containers import Containers, asking, fetched, inside, rows
from deploy.proof.engine import Engine
from shared.values import dataclass

PROJECT = "companion-proof"
FILES = (ROOT / "docker-compose.yml", ROOT / "deploy" / "compose" / "sandbox.yml")
THREE_BROKERS = ROOT / "deploy" / "compose" / "three-rabbitmq.yml"

_SUBNETS = "10.231"
_PATIENT_PROBE = {"interval": "45s", "timeout": "30s", "retries": 5, "start_period": "300s"}
DATABASE_USER = "postgres"
SIMULATOR = "http://127.0.0.1:8000/_sim"
INTERNAL_METRICS = "http://127.0.0.1:8001/metrics"
# A route has braces of its own.
_REQUESTS = re.compile(r"^companion_http_requests_total\{.*/messages\".*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running compose project. Fits `course.Suite`."""

    compose: Compose
    containers: Containers
    url: str

    def up(self, *words: str, seconds: float) -> float:
        """Bring it up; how long it took until all was healthy. Raises CompanionError."""
        began = time.monotonic()
        self.compose.run("up", "--detach", *words, seconds=seconds)
        self.containers.wait_healthy(max(1.0, seconds - (time.monotonic() - began)))
        return time.monotonic() - began

    def wait_healthy(self, seconds: float) -> float:
        """How long it took until nothing was out of order. Raises CompanionError."""
        return self.containers.wait_healthy(seconds)

    def scale(self, service: str, number: int) -> None:
        """So many containers of a service; nothing else is touched."""
        words = ("--no-deps", "--no-recreate", "--scale", f"{service}={number}", service)
        self.up(*words, seconds=300)

    def down(self) -> None:
        """Remove all of it, its volumes too."""
        self.compose.run(
            "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5"
        )

    def rows(self, service: str, sql: str) -> Sequence[Mapping[str, Any]]:
        return rows(self.containers.one("postgres"), DATABASE_USER, f"companion_{service}", sql)

    def served(self) -> Sequence[Mapping[str, Any]]:
        container = self.containers.one("simulator")
        return list(fetched(container, f"{SIMULATOR}/served")["served"])

    def messages_taken(self, service: str) -> dict[str, float]:
        """How many questions each container of a pool has taken since it began."""
        return {
            container.name: questions_in(inside(container, asking(INTERNAL_METRICS)))
            for container in self.containers.of(service)
        }

    def queue_members(self) -> dict[str, int]:
        """On how many of RabbitMQ's nodes each queue has a copy that is there."""
        words = "list_queues --quiet --vhost companion name online --formatter json"
        said = inside(self.containers.one("rabbitmq"), ("rabbitmqctl", *words.split()))
        return {queue["name"]: len(queue["online"]) for queue in json.loads(said)}

    def verify_ledger(self) -> str:
        """What `companion ledger verify` says in the tools' container. Raises CompanionError."""
        words = ("--rm", "--no-deps", "--no-TTY", "tools", "ledger", "verify")
        return self.compose.run("run", *words, seconds=300)


def questions_in(metrics: str) -> float:
    """How many questions a replica has taken, by its own metrics."""
    return sum(float(value) for value in _REQUESTS.findall(metrics))


def prepare(
    engine: Engine,
    program: Sequence[str],
    images: Mapping[str, str],
    folder: Path,
    *,
    busy: bool = False,
    brokers: int = 1,
) -> Deployment:
    """Make secrets in the folder and a compose project that reads them; nothing is started yet.

    `images`: the variables that name images that can't be pulled here. `busy`: the machine has
    other things to do, so containers are asked less often how they are, and may take their time.
    `brokers`: RabbitMQ's nodes, 1 or 3.
    """
    secrets = folder / "secrets"
    _command("deployment", "create", str(secrets))
    port = free_port()
    environment = {
        "DOCKER_HOST": engine.address,
        "COMPANION_SECRETS": str(secrets),
        "COMPANION_SETTINGS": str(_settings(folder)),
        "PORT": str(port),
        "SANDBOX": "1",
        "COMPANION_ENVIRONMENT": "test",
        **images,
    }
    files = [*FILES, *([THREE_BROKERS] if brokers == 3 else [])]
    compose = Compose(program, PROJECT, files, environment)
    compose = replace(compose, files=[*files, _changes(compose, folder, busy=busy)])
    return Deployment(compose, Containers(engine.client, PROJECT), f"http://127.0.0.1:{port}")


def _changes(compose: Compose, folder: Path, *, busy: bool) -> Path:
    """Small networks: an engine has place for about thirty of its usual ones, and another
    deployment may have half of them. On a busy machine also patient probes."""
    project = json.loads(compose.run("--profile", "*", "config", "--format", "json"))
    networks = {
        name: {"ipam": {"config": [{"subnet": f"{_SUBNETS}.{number}.0/24"}]}}
        for number, name in enumerate(sorted(project["networks"]))
    }
    probed = [name for name, one in project["services"].items() if _is_probed(one)]
    services = {name: {"healthcheck": _PATIENT_PROBE} for name in probed} if busy else {}
    file = folder / "changes.json"
    file.write_text(json.dumps({"networks": networks, "services": services}))
    return file


def _is_probed(service: Mapping[str, Any]) -> bool:
    probe = service.get("healthcheck", {})
    return "test" in probe and not probe.get("disable", False)


def _settings(folder: Path) -> Path:
    """What differs from a deployment's defaults: holds of dead replicas are settled sooner, and the
    passwords of these users cost little, so that nobody has to wait for either; they all open their
    accounts from one address."""
    settings = folder / "settings"
    settings.mkdir()
    (settings / "auth.env").write_text(
        "AUTH_ARGON2_PASSES=1\nAUTH_ARGON2_MEMORY_KIB=1024\nAUTH_REGISTRATIONS_NETWORK=1000000\n"
    )
    (settings / "chat.env").write_text("CHAT_HOLD_LEASE_SECONDS=10\n")
    (settings / "voice.env").write_text("VOICE_HOLD_LEASE_SECONDS=10\n")
    return settings


def _command(*words: str) -> None:
    done = subprocess.run(  # noqa: S603 - no shell
        [sys.executable, "-m", "deploy.companion", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise CompanionError(
            f"companion {' '.join(words[:2])} failed: {done.stderr.strip()[-800:]}"
        )
