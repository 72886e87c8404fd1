"""CPU time of a deployment's containers, as their engine counts it, and of the engine itself."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil

from bench.processes import read
from deploy.proof.containers import Containers, service_of

ENGINE = "(the engine)"
"""The daemons beside the containers, and their forwarders of published ports."""

_ENGINES = ("dockerd", "docker-proxy", "containerd", "containerd-shim")
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Used:
    """What a compose service has used so far, and how long its limit has held it back."""

    cpu_seconds: float = 0.0
    throttled_seconds: float = 0.0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.cpu_seconds + other.cpu_seconds, self.throttled_seconds + other.throttled_seconds
        )

    def since(self, before: Used) -> Used:
        """What came after an earlier reading."""
        return Used(
            self.cpu_seconds - before.cpu_seconds, self.throttled_seconds - before.throttled_seconds
        )


class ContainerMeter:
    """Readings of all services of a deployment, before and after."""

    def __init__(self, containers: Containers) -> None:
        self._containers = [one for one in containers.all() if one.status == "running"]
        self._engine = _daemons()
        self._before = self._read()
        # Last here and first at the end: to be asked costs the engine more than a second's work.
        self._engine_before = self._read_engine()

    def _read(self) -> dict[str, Used]:
        with ThreadPoolExecutor(_AT_ONCE) as beside:
            found = list(beside.map(_of_container, self._containers))
        used: dict[str, Used] = {}
        for container, one in zip(self._containers, found, strict=True):
            name = service_of(container)
            used[name] = used.get(name, Used()) + one
        return used

    def _read_engine(self) -> Used:
        return Used(read(self._engine).cpu_seconds)

    def spent(self) -> Mapping[str, Used]:
        """What each service has used since the meter was made."""
        engine = self._read_engine().since(self._engine_before)
        services = {name: now.since(self._before[name]) for name, now in self._read().items()}
        return {ENGINE: engine, **services}


def _of_container(container: Any) -> Used:
    said = container.stats(stream=False, one_shot=True)["cpu_stats"]
    return Used(
        said["cpu_usage"]["total_usage"] / 1e9,
        said.get("throttling_data", {}).get("throttled_time", 0) / 1e9,
    )


def _daemons() -> list[int]:
    """None of them where the engine runs on another machine."""
    return [one.pid for one in psutil.process_iter(["name"]) if _is_engine(one.info["name"] or "")]


def _is_engine(name: str) -> bool:
    return name.startswith(_ENGINES)
