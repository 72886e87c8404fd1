"""Parts that containers are put together of."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.k8s.objects import Object
from deploy.k8s.processes import Process
from deploy.k8s.settings import config_maps_of

TMP: Object = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a volume of its own


def locked_down(container: Object) -> Object:
    """A container that can gain nothing and writes nowhere but into its volumes."""
    return {
        **container,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def settings_of(process: Process) -> Object:
    """The files of settings that it is told."""
    names = config_maps_of(process)
    return {"envFrom": [{"configMapRef": {"name": name}} for name in names]} if names else {}


def variables(values: Mapping[str, str]) -> list[Object]:
    """What it is told beside them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def get(path: str, port: str) -> Object:
    """Asked by HTTP on a named port."""
    return {"httpGet": {"path": path, "port": port}}


def probe(question: Object, *, every: int, timeout: int, failures: int) -> Object:
    """A question that is put again and again."""
    return {
        **question,
        "periodSeconds": every,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def ports(named: Mapping[str, int]) -> list[Object]:
    """Where a container listens."""
    return [{"name": name, "containerPort": port} for name, port in named.items()]
