"""A companion that runs in another process: what it is doing, and orders to its processes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.ports import listens_itself
from deploy.companion.previous_run import RunRecord, running
from deploy.companion.programs import Role
from deploy.companion.readiness import Probe
from deploy.companion.supervision.client import ProcessState, SupervisorClient, SupervisorGone
from deploy.companion.supervision.configuration import group_of
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process, as `companion status` shows it."""

    name: str
    state: str
    pid: int
    port: int | None
    uptime_seconds: float
    ready: bool


class Running:
    """The processes of a companion that is up."""

    def __init__(self, installation: Installation, record: RunRecord) -> None:
        self._installation = installation
        self._record = record
        self._client = SupervisorClient(installation.supervisor().socket)

    @classmethod
    def find(cls, installation: Installation) -> Running | None:
        """The companion that runs with this data directory, if there is one."""
        record = running(installation.data)
        return cls(installation, record) if record is not None else None

    @classmethod
    def require(cls, installation: Installation) -> Running:
        """The companion that runs with this data directory. Raises CompanionError."""
        found = cls.find(installation)
        if found is None:
            raise CompanionError("Companion is not running.", "Start it with `make run`.")
        return found

    @property
    def url(self) -> str:
        """The gateway."""
        return self._record.url

    @property
    def pid(self) -> int:
        """The process of `companion up`."""
        return self._record.pid

    @property
    def ready_after_seconds(self) -> float | None:
        """How long the start took; None while it is still under way."""
        return self._record.ready_after_seconds

    def processes(self) -> list[ProcessStatus]:
        """All processes, in the Procfile's order, each asked at the same time whether it works."""
        states = self._states()
        roles = [role for role in self._installation.roles if role.name in states]
        with ThreadPoolExecutor(max_workers=len(roles) or 1) as pool:
            ready = list(pool.map(lambda role: self._is_ready(role, states[role.name]), roles))
        ports = self._installation.ports()
        return [
            ProcessStatus(
                name=role.name,
                # supervisord calls everything new "starting"; whoever works has started.
                state="running" if works else states[role.name].state.lower(),
                pid=states[role.name].pid,
                port=ports.get(role.name),
                uptime_seconds=_uptime(states[role.name]),
                ready=works,
            )
            for role, works in zip(roles, ready, strict=True)
        ]

    def pid_of(self, name: str) -> int:
        """The process id of one process; 0 when it does not run."""
        return self._states()[self._installation.role(name).name].pid

    def stop(self, name: str) -> None:
        """Stop one process and wait until it has gone; it stays so until it is started again."""
        self._client.stop_and_wait(self._address(name))

    def start(self, name: str) -> None:
        """Start one process that was stopped."""
        self._client.start(self._address(name))

    def kill(self, name: str, signal: str = "KILL") -> None:
        """Send a signal to one process; one that dies of it is started again by supervisord."""
        self._client.signal(self._address(name), signal)

    def restart(self, name: str, *, patience_seconds: float = 60) -> float:
        """Restart one process and wait until it works; returns the seconds it took."""
        began = time.monotonic()
        self._client.restart(self._address(name))
        self.wait_for(name, patience_seconds=patience_seconds)
        return time.monotonic() - began

    def wait_for(self, name: str, *, patience_seconds: float = 60) -> None:
        """Wait until one process works. Raises CompanionError."""
        role = self._installation.role(name)
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            if self._is_ready(role, self._states()[name]):
                return
            time.sleep(0.05)
        raise CompanionError(
            f"{name} is not ready after {patience_seconds:.0f} s.",
            f"See {self._installation.data.log(name)}.",
        )

    def _is_ready(self, role: Role, state: ProcessState) -> bool:
        probe: Probe = self._installation.probe(role, thorough=True, since=state.started_at)
        port = self._installation.asked_port(role)
        return state.is_up and probe() and (port is None or listens_itself(state.pid, port))

    def _states(self) -> dict[str, ProcessState]:
        try:
            return self._client.processes()
        except SupervisorGone as error:
            raise CompanionError(
                "Companion is starting or stopping just now.", "Try again in a moment."
            ) from error

    def _address(self, name: str) -> str:
        return f"{group_of(self._installation.role(name).stage)}:{name}"


def _uptime(state: ProcessState) -> float:
    return round(max(0.0, time.time() - state.started_at), 1) if state.pid else 0.0
