"""What all objects of ours have in common."""

from __future__ import annotations

from typing import Any

from deploy.k8s.processes import Process

Object = dict[str, Any]
"""A Kubernetes object, or a part of one, as it stands in YAML."""

PART_OF = {"app.kubernetes.io/part-of": "companion"}


def labels_of(process: Process) -> dict[str, str]:
    """What Services, policies and Prometheus tell processes apart by."""
    return {
        "app.kubernetes.io/name": process.name,
        **PART_OF,
        "service": process.service,
        "kind": str(process.kind),
        "pool": process.pool,
    }


def selector_of(process: Process) -> dict[str, str]:
    """The pods of a process: a name is one process's and never changes."""
    return {"app.kubernetes.io/name": process.name}


def any_object(kind: str, version: str, name: str, labels: Object, spec: Object) -> Object:
    """An object with a spec."""
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }
