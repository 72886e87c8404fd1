"""The autoscaler's rules, read from the manifests of deploy/k8s and carried out as Kubernetes does.

https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ for the
algorithm, its tolerance, and its policies; KEDA hands the metrics on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.k8s.needs import Needs, needs_of
from deploy.k8s.processes import processes
from deploy.k8s.scaling import autoscalers, scaled_objects

TOLERANCE = 0.1  # of Kubernetes: a ratio this near to 1 changes nothing


@dataclass(frozen=True, slots=True)
class Policies:
    """How fast replicas may come or go."""

    window: float
    most: bool  # the policy that changes most counts, or the one that changes least
    steps: Sequence[tuple[str, int, float]]  # (Percent or Pods, value, seconds)

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Policies:
        return cls(
            manifest["stabilizationWindowSeconds"],
            manifest["selectPolicy"] == "Max",
            [(step["type"], step["value"], step["periodSeconds"]) for step in manifest["policies"]],
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """When a workload gets how many replicas."""

    least: int
    most: int
    target: float  # of what one replica has
    up: Policies
    down: Policies

    @classmethod
    def of_pool(cls, name: str) -> Rules:
        """By requests in flight."""
        spec = _spec(scaled_objects(), name)
        [in_flight] = [one for one in spec["triggers"] if one["name"] == "in-flight"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        return cls(
            spec["minReplicaCount"],
            spec["maxReplicaCount"],
            float(in_flight["metadata"]["threshold"]),
            Policies.of(behavior["scaleUp"]),
            Policies.of(behavior["scaleDown"]),
        )

    @classmethod
    def of_shared(cls, name: str) -> Rules:
        """By cores busy."""
        spec = _spec(autoscalers(), name)
        percent = spec["metrics"][0]["resource"]["target"]["averageUtilization"]
        return cls(
            spec["minReplicas"],
            spec["maxReplicas"],
            percent / 100 * needs_of_name(name).cores,
            Policies.of(spec["behavior"]["scaleUp"]),
            Policies.of(spec["behavior"]["scaleDown"]),
        )

    @classmethod
    def of_one_pool(cls, pools: Sequence[Rules], target: float) -> Rules:
        """One workload in place of several: as many replicas, at least and at most."""
        least, most = sum(pool.least for pool in pools), sum(pool.most for pool in pools)
        return cls(least, most, target, pools[0].up, pools[0].down)


def needs_of_name(name: str) -> Needs:
    """What a pod of this process is promised, and the most that it may take."""
    [found] = [needs_of(process) for process in processes() if process.name == name]
    return found


def _spec(manifests: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    [found] = [one["spec"] for one in manifests if one["metadata"]["name"] == name]
    spec: Mapping[str, Any] = found
    return spec


@dataclass(slots=True)
class Autoscaler:
    """Decides every 15 seconds how many there should be."""

    rules: Rules
    replicas: int
    _wished: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, used: float) -> int:
        """How many there should be, if all together have `used` of what `target` counts."""
        self._wished.append((now, self._wish(used)))
        allowed = self._allowed(now)
        if allowed != self.replicas:
            self._changes.append((now, allowed - self.replicas))
            self.replicas = allowed
        return self.replicas

    def _wish(self, used: float) -> int:
        ratio = used / (self.rules.target * self.replicas)
        if abs(ratio - 1) <= TOLERANCE:
            return self.replicas
        return min(max(math.ceil(used / self.rules.target), self.rules.least), self.rules.most)

    def _allowed(self, now: float) -> int:
        longest = max(self.rules.up.window, self.rules.down.window)
        while self._wished and self._wished[0][0] <= now - longest:
            self._wished.popleft()
        lately = self._wished_within(now, self.rules.up)
        if (least := min(lately)) > self.replicas:
            return min(least, self._limit(now, self.rules.up, 1))
        if (most := max(self._wished_within(now, self.rules.down))) < self.replicas:
            return max(most, self._limit(now, self.rules.down, -1))
        return self.replicas

    def _wished_within(self, now: float, policies: Policies) -> list[int]:
        """In the window, and the newest anyway."""
        return [
            wish
            for at, wish in self._wished
            if at > now - policies.window or at == self._wished[-1][0]
        ]

    def _limit(self, now: float, policies: Policies, direction: int) -> int:
        limits = []
        for kind, value, seconds in policies.steps:
            changed = sum(c for at, c in self._changes if at > now - seconds and c * direction > 0)
            before = self.replicas - changed
            step = math.ceil(before * value / 100) if kind == "Percent" else value
            limits.append(before + direction * step)
        widest = max if (direction > 0) is policies.most else min
        limit = widest(limits)
        return max(limit, self.replicas) if direction > 0 else min(limit, self.replicas)
