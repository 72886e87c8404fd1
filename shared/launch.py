"""What runs in a service's container: `python -m shared.launch web|worker|beat|relay|prepare`.

One entry point for all processes of an image, so that compose and Kubernetes only name the role.
The role becomes the process itself (no child, so signals arrive); `shared/probe.py` asks it how it
is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.probe import INTERNAL_PORT, METRICS_PORT, READY_FILE, ROLE_FILE
from shared.values import dataclass

PUBLIC_PORT = 8000
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - a container's own network

TURN_AWAY_SECONDS = 3
"""Within these the gateway's connections have ended by themselves, and it asks other replicas."""

METRICS_DIRECTORY = Path("/tmp/companion-metrics")  # noqa: S108


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line, and what its environment has beside what it was given."""

    command: Sequence[str]
    environment: Mapping[str, str]


def launch_of(role: str, service: str, *, tier: str | None, concurrency: int) -> Launch:
    """How a service's process of this role is run. `tier`: a worker takes the queues of this tier
    alone."""
    background = {
        "READY_FILE": READY_FILE,
        "METRICS_HOST": EVERY_ADDRESS,
        "METRICS_PORT": str(METRICS_PORT),
    }
    celery = ("-m", "shared.messaging.celery_command", "-A", f"services.{service}.worker:app")
    match role:
        case "web":
            return Launch(
                (
                    *("-m", "shared.http.serve", f"services.{service}.app"),
                    *("--host", EVERY_ADDRESS, "--port", str(PUBLIC_PORT)),
                    *("--internal-port", str(INTERNAL_PORT)),
                    *("--turn-away-seconds", str(TURN_AWAY_SECONDS)),
                ),
                {},
            )
        case "worker":
            return Launch(
                (
                    *(*celery, "worker", "--hostname", f"{service}@%h", "--pool", "prefork"),
                    *("--concurrency", str(concurrency)),
                    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                ),
                # Celery then treats TERM as a wish to finish the task at hand and to end soon. Its
                # children count in files, which the parent adds up.
                background
                | {"REMAP_SIGTERM": "SIGQUIT", "PROMETHEUS_MULTIPROC_DIR": str(METRICS_DIRECTORY)}
                | ({"WORKER_TIER": tier} if tier else {}),
            )
        case "beat":
            return Launch((*celery, "beat", "--pidfile="), background)
        case "relay":
            return Launch(("-m", "shared.messaging.relay", service), background)
        case _:
            return Launch(("-m", "shared.messaging.prepare", service), {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the process of a role."""
    parser = argparse.ArgumentParser(prog="python -m shared.launch")
    parser.add_argument("role", choices=("web", "worker", "beat", "relay", "prepare"))
    parser.add_argument("--tier", help="worker: the queues of this tier alone")
    parser.add_argument("--concurrency", type=int, default=1, help="worker: processes that handle")
    given = parser.parse_args(arguments)
    service = os.environ.get("COMPANION_SERVICE", "")
    if not service:
        parser.error("COMPANION_SERVICE is not set: which service is this?")
    Path(ROLE_FILE).write_text(given.role, "utf-8")
    launch = launch_of(given.role, service, tier=given.tier, concurrency=given.concurrency)
    # What is set by hand wins: a second worker on one machine needs another port.
    ours = {name: os.environ.get(name) or value for name, value in launch.environment.items()}
    environment = {**os.environ, **ours}
    if file := environment.get("READY_FILE"):
        Path(file).unlink(missing_ok=True)
    if directory := environment.get("PROMETHEUS_MULTIPROC_DIR"):
        _empty(Path(directory))
    os.execve(sys.executable, [sys.executable, *launch.command], environment)  # noqa: S606


def _empty(directory: Path) -> None:
    """Make the directory, without what the processes before this one have counted."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
