"""What each container is promised, and the most that it may take."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.k8s.objects import Object
from deploy.k8s.processes import Kind, Process
from shared.values import dataclass

PROXY_THREADS = 2
"""Of an Envoy, and the cores that it may take. Compose has one, since two cores there are for all.

Here a pod asks for half a core and the autoscaler lets it take 240 % of that (`scaling.py`): 1.2
cores, which one thread never reaches, so with one no pod would ever be added.
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """One container's."""

    cpu: str
    memory: str
    most_cpu: str
    most_memory: str

    @property
    def cores(self) -> float:
        """As many as it is promised."""
        return _cores(self.cpu)

    @property
    def most_cores(self) -> float:
        """As many as it may take."""
        return _cores(self.most_cpu)

    @property
    def resources(self) -> Object:
        return {
            "requests": {"cpu": self.cpu, "memory": self.memory},
            "limits": {"cpu": self.most_cpu, "memory": self.most_memory},
        }


# One process is one event loop, so one core is all that it can use. Passwords are hashed in threads
# of their own, and Envoy has one per core.
_NEEDS: Mapping[Kind, Needs] = {
    Kind.WEB: Needs("250m", "192Mi", "1", "512Mi"),
    Kind.WORKER: Needs("100m", "224Mi", "1", "512Mi"),
    Kind.BEAT: Needs("50m", "160Mi", "500m", "512Mi"),
    Kind.RELAY: Needs("50m", "96Mi", "500m", "256Mi"),
    Kind.PREPARE: Needs("100m", "192Mi", "1", "512Mi"),
    Kind.PROXY: Needs("500m", "192Mi", str(PROXY_THREADS), "1Gi"),
}
_MORE: Mapping[tuple[str, Kind], Needs] = {
    ("auth", Kind.WEB): Needs("500m", "384Mi", "2", "1Gi"),
    # Exports of days and PDF documents are made in memory.
    ("billing", Kind.BEAT): Needs("100m", "256Mi", "1", "1Gi"),
    ("billing", Kind.WEB): Needs("250m", "256Mi", "1", "768Mi"),
}
RENDERING = Needs("100m", "64Mi", "500m", "192Mi")


def _cores(amount: str) -> float:
    return int(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)


def needs_of(process: Process) -> Needs:
    """Of the container that is the process."""
    return _MORE.get((process.service, process.kind), _NEEDS[process.kind])
