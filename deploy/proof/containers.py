"""The deployment's containers, through the SDK: find, break, mend, look inside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from deploy.companion.errors import CompanionError
from shared.values import dataclass

_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_ONE_OFF = "com.docker.compose.oneoff"
_POLL_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Places:
    """The networks of a container, with the names that it answers to there."""

    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Containers:
    """Those of one compose project."""

    client: Any
    project: str

    def of(self, service: str) -> list[Any]:
        """The containers of a compose service, oldest first, running or not."""
        labels = [f"{_PROJECT}={self.project}", f"{_SERVICE}={service}", f"{_ONE_OFF}=False"]
        found = self.client.containers.list(all=True, filters={"label": labels})
        return sorted(found, key=lambda container: str(container.attrs["Created"]))

    def one(self, service: str) -> Any:
        """The first container of a compose service. Raises CompanionError."""
        if not (found := self.of(service)):
            raise CompanionError(f"There is no container of {service}.")
        return found[0]

    def all(self) -> list[Any]:
        """Every container of the project."""
        labels = [f"{_PROJECT}={self.project}", f"{_ONE_OFF}=False"]
        return list(self.client.containers.list(all=True, filters={"label": labels}))

    def unhealthy(self) -> list[str]:
        """What is not in order now: each with its state. A job that ended well is."""
        return sorted(filter(None, map(_trouble, self.all())))

    def wait_healthy(self, seconds: float) -> float:
        """How long it took until nothing was out of order. Raises CompanionError."""
        return until_healthy(self.unhealthy, seconds, every=_POLL_SECONDS)


def until_healthy(unhealthy: Callable[[], Sequence[str]], seconds: float, *, every: float) -> float:
    """How long it took until nothing was out of order. Raises CompanionError."""
    began = time.monotonic()
    while bad := unhealthy():
        if time.monotonic() - began > seconds:
            raise CompanionError(f"Not healthy after {seconds:.0f} s: {', '.join(bad)}")
        time.sleep(every)
    return time.monotonic() - began


def service_of(container: Any) -> str:
    """The compose service that it belongs to."""
    return str(container.labels.get(_SERVICE, container.name))


def _trouble(container: Any) -> str:
    state = container.attrs["State"]
    status = state.get("Status", container.status) if isinstance(state, dict) else str(state)
    if status == "exited":
        container.reload()
        ended_well = container.attrs["State"]["ExitCode"] == 0
        return "" if ended_well else f"{service_of(container)} (exited)"
    if status != "running":
        return f"{service_of(container)} ({status})"
    health = state.get("Health", {}).get("Status", "healthy") if isinstance(state, dict) else ""
    return "" if health in ("healthy", "none") else f"{service_of(container)} ({health})"


def inside(container: Any, command: Sequence[str], **environment: str) -> str:
    """What a command says within a container. Raises CompanionError when it fails."""
    code, output = container.exec_run(list(command), environment=environment or None, demux=True)
    out, err = output
    if code != 0:
        said = (err or out or b"").decode(errors="replace").strip()[-500:]
        raise CompanionError(f"{command[0]} in {service_of(container)} failed: {said}")
    return (out or b"").decode()


def disconnected(client: Any, container: Any) -> Places:
    """Take it off all its networks; what to give back later."""
    container.reload()
    networks = container.attrs["NetworkSettings"]["Networks"]
    short = container.id[:12]
    places = {
        name: [alias for alias in (found.get("Aliases") or ()) if alias != short]
        for name, found in networks.items()
    }
    for name in places:
        client.networks.get(name).disconnect(container, force=True)
    return Places(places)


def reconnected(client: Any, container: Any, places: Places) -> None:
    """Put it back where it was."""
    for name, aliases in places.aliases.items():
        client.networks.get(name).connect(container, aliases=list(aliases))


# The password stays within the container, where the engine itself reads it.
_PSQL = (
    'PGPASSWORD="$(cat /run/secrets/superuser_password)" exec psql --no-psqlrc --tuples-only'
    ' --no-align --quiet --host 127.0.0.1 --username "$1" --dbname "$2" --command "$3"'
)


def reading(user: str, database: str, sql: str) -> Sequence[str]:
    """The command that says a query's rows as JSON, in PostgreSQL's own container."""
    asked = f"select coalesce(json_agg(found), '[]') from ({sql}) as found"  # noqa: S608 - ours
    return ("sh", "-c", _PSQL, "psql", user, database, asked)


def rows(container: Any, user: str, database: str, sql: str) -> list[dict[str, Any]]:
    """What stands in a database of the PostgreSQL in this container."""
    return list(json.loads(inside(container, reading(user, database, sql))))


_GET = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1]).read())"


def asking(url: str) -> Sequence[str]:
    """The command that says what a server answers, in a container of ours."""
    return ("python", "-c", _GET, url)


def fetched(container: Any, url: str) -> Any:
    """The JSON that a server within a container answers, asked from within."""
    return json.loads(inside(container, asking(url)))
