"""The suite in a namespace of a cluster, looked at and broken by kubectl."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.companion.errors import CompanionError
from deploy.proof.containers import asking, reading, until_healthy
from deploy.proof.deployment import DATABASE_USER, INTERNAL_METRICS, SIMULATOR, questions_in
from deploy.proof.kubectl import Kubectl
from shared.values import dataclass

TOOLS = "tools"

_POLL_SECONDS = 1.0
_OURS = "app.kubernetes.io/part-of=companion"
_NAME = "app.kubernetes.io/name"


@dataclass(frozen=True, slots=True)
class Namespace:
    """The suite there, with simulated vendors and engines of its own. Fits `course.Suite`."""

    kubectl: Kubectl
    url: str

    def pods(self, name: str) -> list[str]:
        """The names of a process's pods that are not on their way out."""
        found = self.kubectl.items("pods", "--selector", f"{_NAME}={name}")
        return [
            one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]
        ]

    def pod(self, name: str) -> str:
        """One of them. Raises CompanionError when there is none."""
        if not (found := self.pods(name)):
            raise CompanionError(f"There is no pod of {name}.")
        return found[0]

    def names(self, kind: str) -> list[str]:
        """The Deployments of our own whose pods do this kind of work."""
        found = self.kubectl.items("deployments", "--selector", f"{_OURS},kind={kind}")
        return [one["metadata"]["name"] for one in found]

    def unhealthy(self) -> list[str]:
        """Whose pods are not all there, each with how many are."""
        found = self.kubectl.items("deployments,statefulsets")
        return sorted(filter(None, map(_trouble, found)))

    def wait_healthy(self, seconds: float) -> float:
        return until_healthy(self.unhealthy, seconds, every=_POLL_SECONDS)

    def scale(self, name: str, number: int) -> None:
        """So many pods; nothing else is touched."""
        self.kubectl.run("scale", f"deployment/{name}", f"--replicas={number}")

    def replicas(self, name: str) -> int:
        """How many pods a Deployment is to have."""
        said = self.kubectl.run("get", f"deployment/{name}", "--output", "json")
        return int(json.loads(said)["spec"]["replicas"])

    def restart(self, *names: str, seconds: float) -> None:
        """A rollout of the same version, to its end."""
        deployments = [f"deployment/{name}" for name in names]
        self.kubectl.run("rollout", "restart", *deployments)
        deadline = time.monotonic() + seconds
        for one in deployments:
            left = max(1.0, deadline - time.monotonic())
            self.kubectl.run("rollout", "status", one, f"--timeout={left:.0f}s", seconds=left + 10)

    def delete(self, name: str, *, at_once: bool) -> None:
        """One pod; `at_once` leaves it two seconds. Returns when it is gone."""
        how = ("--grace-period=0", "--force") if at_once else ()
        self.kubectl.run("delete", "pod", self.pod(name), *how, seconds=600)

    def rows(self, service: str, sql: str) -> Sequence[Mapping[str, Any]]:
        command = reading(DATABASE_USER, f"companion_{service}", sql)
        return list(json.loads(self.kubectl.inside(self.pod("postgres"), command)))

    def served(self) -> Sequence[Mapping[str, Any]]:
        said = self.kubectl.inside(self.pod("simulator"), asking(f"{SIMULATOR}/served"))
        return list(json.loads(said)["served"])

    def messages_taken(self, name: str) -> dict[str, float]:
        """How many questions each pod of a pool has taken since it began."""
        return {
            pod: questions_in(self.kubectl.inside(pod, asking(INTERNAL_METRICS)))
            for pod in self.pods(name)
        }

    def verify_ledger(self) -> str:
        words = ("python", "-m", "deploy.companion", "ledger", "verify")
        return self.kubectl.inside(TOOLS, words, seconds=300)

    def versions(self) -> dict[str, str]:
        """What it runs on."""
        server = json.loads(self.kubectl.run("version", "--output", "json"))["serverVersion"]
        nodes = self.kubectl.items("nodes")
        about = nodes[0]["status"]["nodeInfo"]
        return {
            "Kubernetes": str(server["gitVersion"]),
            "nodes": str(len(nodes)),
            "Linux": str(about["kernelVersion"]),
            "processors": str(sum(int(node["status"]["capacity"]["cpu"]) for node in nodes)),
        }


def _trouble(one: Mapping[str, Any]) -> str:
    wanted, status = one["spec"].get("replicas", 1), one["status"]
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
    known = status.get("observedGeneration") == one["metadata"]["generation"]
    if known and counts == [wanted] * 3:
        return ""
    return f"{one['metadata']['name']} ({counts[2]} of {wanted})"
