"""A service in a process of its own; CPU time and memory of groups of processes, from /proc, to the
nanosecond."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from deploy.companion.ports import free_port

OURS = Path(__file__).parent.parent
"""This checkout."""
_READY_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """A service's web process. `name` tells whose checkout it runs."""

    name: str
    pid: int
    port: int
    internal_port: int


@contextmanager
def service_process(
    service: str,
    name: str,
    checkout: Path,
    environment: Mapping[str, str],
    cores: Sequence[int] | None = None,
    python: str = sys.executable,
) -> Iterator[ServiceProcess]:
    """A checkout's service, ready, on these cores, run by this interpreter.

    Raises RuntimeError when it does not come up.
    """
    port, internal = free_port(), free_port()
    command = [python, "-m", "shared.http.serve", f"services.{service}.app"]
    ports = ["--port", str(port), "--internal-port", str(internal)]
    with tempfile.TemporaryFile() as logs:
        process = subprocess.Popen(
            [*command, *ports],
            cwd=checkout,
            env={**environment, "PYTHONPATH": str(checkout)},
            stdout=logs,
            stderr=logs,
        )
        try:
            _wait_until_ready(process, service, internal)
            for thread in Path(f"/proc/{process.pid}/task").iterdir() if cores else ():
                os.sched_setaffinity(int(thread.name), cores or ())
            yield ServiceProcess(name, process.pid, port, internal)
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], service: str, port: int) -> None:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False)
            # No egress is reached before the vendor's process serves.
            if answer.status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{service} does not come up")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a group of processes has used so far."""

    cpu_seconds: float
    resident_bytes: int


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def read(pids: Iterable[int]) -> Reading:
    """Sum over the processes that still live."""
    cpu, resident = 0.0, 0
    for pid in pids:
        try:
            cpu += _cpu_seconds(pid)
            resident += psutil.Process(pid).memory_info().rss
        except (OSError, psutil.NoSuchProcess):
            continue
    return Reading(cpu, resident)


def _cpu_seconds(pid: int) -> float:
    # schedstat counts nanoseconds of each thread; /proc/PID/stat only hundredths of a second.
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9


class Meter:
    """Readings of named groups, before and after.

    Who joins a group in between counts whole; a group that another one started counts for itself.
    """

    def __init__(self, groups: Mapping[str, int]) -> None:
        self._groups = groups
        everybody = {pid for members in self._members().values() for pid in members}
        self._before = {pid: read([pid]).cpu_seconds for pid in everybody}

    def _members(self) -> dict[str, set[int]]:
        whole = {name: set(family(first)) for name, first in self._groups.items()}
        return {
            name: members.difference(
                *(others for other, others in whole.items() if _is_within(other, name, whole))
            )
            for name, members in whole.items()
        }

    def spent(self) -> dict[str, float]:
        """CPU seconds of each group since the meter was made, of the processes that live now."""
        return {
            name: sum(read([pid]).cpu_seconds - self._before.get(pid, 0.0) for pid in members)
            for name, members in self._members().items()
        }

    def resident(self) -> dict[str, int]:
        """Bytes resident in each group now."""
        return {name: read(members).resident_bytes for name, members in self._members().items()}


def _is_within(other: str, name: str, groups: Mapping[str, set[int]]) -> bool:
    return other != name and groups[other] < groups[name]
