"""Questions and orders to a running supervisord, over its socket."""

from __future__ import annotations

import http.client
import socket
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from deploy.companion.errors import CompanionError
from deploy.companion.supervision.configuration import SETTINGS_REFUSED
from shared.values import dataclass

_TIMEOUT_SECONDS = 10


class SupervisorGone(Exception):
    """supervisord does not answer: it has ended or is about to, or is not up yet."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process as supervisord sees it."""

    name: str
    group: str
    state: str
    pid: int
    started_at: float
    reason: str
    exit_code: int = 0

    @property
    def address(self) -> str:
        return f"{self.group}:{self.name}"

    @property
    def is_up(self) -> bool:
        """Whether the process exists; it may not have said that it is ready."""
        return self.state in {"STARTING", "RUNNING"}

    @property
    def has_ended(self) -> bool:
        """Whether it came to an end by itself; supervisord may be about to start it again."""
        return self.state in {"BACKOFF", "EXITED", "FATAL", "UNKNOWN"}

    @property
    def is_given_up(self) -> bool:
        """Whether supervisord starts it no more: it kept failing, or refused its settings."""
        refuses = self.state == "EXITED" and self.exit_code == SETTINGS_REFUSED
        return refuses or self.state == "FATAL"

    @property
    def is_stopped(self) -> bool:
        """Whether nothing of it runs."""
        return self.state in {"STOPPED", "EXITED", "FATAL"}


class SupervisorClient:
    """supervisord's interface, as far as we use it. Every call raises SupervisorGone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def processes(self) -> dict[str, ProcessState]:
        """All processes by name."""
        return {
            info["name"]: ProcessState(
                name=info["name"],
                group=info["group"],
                state=info["statename"],
                pid=info["pid"],
                started_at=float(info["start"]),
                reason=info["spawnerr"] or info["description"],
                exit_code=info["exitstatus"],
            )
            for info in self._call("getAllProcessInfo")
        }

    def start(self, address: str) -> None:
        """Start a process and return at once; does nothing if it runs."""
        self._call("startProcess", address, False)

    def stop(self, address: str) -> None:
        """Ask a process to stop and return at once; does nothing if it doesn't run."""
        self._call("stopProcess", address, False)

    def stop_and_wait(self, address: str, *, patience_seconds: float = 30) -> None:
        """Stop a process and wait until it has gone."""
        self.stop(address)
        name = address.partition(":")[2]
        deadline = time.monotonic() + patience_seconds
        while not self.processes()[name].is_stopped and time.monotonic() < deadline:
            time.sleep(0.02)

    def restart(self, address: str) -> None:
        """Stop a process, wait until it has gone, and start it."""
        self.stop_and_wait(address)
        self.start(address)

    def signal(self, address: str, name: str) -> None:
        """Send a signal to a process, such as KILL."""
        self._call("signalProcess", address, name)

    def shut_down(self) -> None:
        """Stop everything and end supervisord."""
        self._call("shutdown")

    def wake(self) -> None:
        """Have supervisord look after its processes now; by itself it does so once a second."""
        self._call("getPID")

    def _call(self, method: str, *arguments: object) -> Any:
        transport = _UnixTransport(self._path)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            # A process that is already as it was asked to be, or that ended at once: its state
            # tells, and callers look at it.
            said = fault.faultString.partition(":")[0]
            if said in _HARMLESS:
                return None
            # It is stopping everything, and answers nothing else any more.
            if said == "SHUTDOWN_STATE":
                raise SupervisorGone from fault
            raise CompanionError(f"supervisord refuses: {fault.faultString}.") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorGone from error


_HARMLESS = {"ALREADY_STARTED", "NOT_RUNNING", "SPAWN_ERROR"}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    """One connection for one call, so that no two threads ever share one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        # Where the base class looks for the connection that it closes at the end.
        self._connection = host, connection
        return connection
