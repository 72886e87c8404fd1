"""The manifests as `kubectl` would apply them, and what a cluster would say to them."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types
from referencing import Registry, Resource

from deploy.k8s.render import HERE
from tests.support.k8s_schemas import CUSTOM

Object = dict[str, Any]

OVERLAYS = ("development", "production", "production-ha")
PARTS = ("prepare", "tools", "foundation")
ALL = (*OVERLAYS, *(f"{name}/{part}" for name in OVERLAYS[:2] for part in PARTS))
# The schemas of the package kubernetes-validate; `strict` knows no fields but the listed ones.
_SCHEMAS = files("kubernetes_validate") / "kubernetes-json-schema"
_FOLDER = re.compile(r"v1\.(\d+)\.0-local-strict")
_MINORS = sorted(int(found[1]) for one in _SCHEMAS.iterdir() if (found := _FOLDER.match(one.name)))
NEWEST_VERSIONS = tuple(f"1.{minor}" for minor in _MINORS[-3:])


@functools.cache
def built(overlay: str) -> tuple[Object, ...]:
    """Every object of an overlay, built by kustomize itself."""
    printed = subprocess.run(
        [_kubectl(), "kustomize", str(HERE / "overlays" / overlay)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    # What kustomize will no longer take some day still works, and is told here.
    assert (printed.returncode, printed.stderr) == (0, "")
    return tuple(yaml.load_all(printed.stdout, Loader=yaml.CSafeLoader))


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [one for one in built(overlay) if one["kind"] in kinds]


def name_of(one: Object) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def pods(overlay: str) -> Iterator[tuple[str, Object]]:
    """The template of each workload's pods, by the workload's name, and pods by themselves."""
    for one in of_kind(overlay, "Pod"):
        yield one["metadata"]["name"], one
    for one in of_kind(overlay, "Deployment", "StatefulSet", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def environment(overlay: str, container: Object) -> dict[str, str]:
    """The variables that a container gets, in the order in which Kubernetes puts them together."""
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(overlay, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    return found | {one["name"]: one["value"] for one in container.get("env", [])}


def troubles(one: Object, version: str) -> list[str]:
    """What a cluster of this version would say against an object; unknown fields are a trouble."""
    validator = CUSTOM.get(one["kind"]) or _of_cluster(one["kind"], one["apiVersion"], version)
    return [
        f"{name_of(one)}: {'.'.join(map(str, error.path))}: {error.message}"
        for error in validator.iter_errors(one)
    ]


@functools.cache
def _of_cluster(kind: str, api_version: str, version: str) -> Any:
    group, _, own = api_version.rpartition("/")
    group = f"{group.partition('.')[0]}-" if group else ""
    schema = _schema(version, f"{kind.lower()}-{group}{own}")
    definitions = Resource.from_contents(_schema(version, "_definitions"))
    registry: Registry[Any] = definitions @ Registry()
    return Draft202012Validator(schema, registry=registry)


@functools.cache
def _schema(version: str, name: str) -> Any:
    path = _SCHEMAS / f"v{version}.0-local-strict" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))


def _kubectl() -> str:
    beside_python = Path(sys.executable).with_name("kubectl")
    found = str(beside_python) if beside_python.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("there is no kubectl on this machine")
    return found
