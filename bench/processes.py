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
