"""CPU time and memory of groups of processes, from /proc, to the nanosecond."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


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
    """Readings of named groups, before and after."""

    def __init__(self, groups: Mapping[str, int]) -> None:
        self._groups = {name: family(pid) for name, pid in groups.items()}
        self._before = self._read()

    def _read(self) -> dict[str, Reading]:
        return {name: read(pids) for name, pids in self._groups.items()}

    def spent(self) -> dict[str, float]:
        """CPU seconds of each group since the meter was made."""
        return {
            name: now.cpu_seconds - self._before[name].cpu_seconds
            for name, now in self._read().items()
        }

    def resident(self) -> dict[str, int]:
        """Bytes resident in each group now."""
        return {name: now.resident_bytes for name, now in self._read().items()}
