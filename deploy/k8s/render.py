"""Write the manifests anew: `python -m deploy.k8s.render`, or the rules for Prometheus' operator to
standard output: `python -m deploy.k8s.render rules`.

What is written is committed, since people and `kubectl` read it; a test holds it against the
tables. Overlays, engines for development and kustomizations are by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from deploy.k8s.monitoring import pod_monitors, rules
from deploy.k8s.network import engine_policies, policies
from deploy.k8s.objects import Object
from deploy.k8s.processes import processes
from deploy.k8s.scaling import autoscalers, scaled_objects
from deploy.k8s.settings import config_maps
from deploy.k8s.workloads import accounts, common_services, jobs, objects_of, priorities

HERE = Path(__file__).parent

_HEADER = "# Written by `python -m deploy.k8s.render` from its tables; overlays change it.\n"


def files() -> dict[str, str]:
    """Every generated file, by its path below this folder."""
    manifests: dict[str, Iterable[Object]] = {
        "foundation/accounts.yaml": accounts(),
        "foundation/priorities.yaml": priorities(),
        "foundation/network.yaml": policies(),
        "prepare/jobs.yaml": jobs(),
        "base/services.yaml": common_services(),
        **{f"base/{process.name}.yaml": objects_of(process) for process in processes()},
        "autoscaling/scaled-objects.yaml": scaled_objects(),
        "autoscaling/autoscalers.yaml": autoscalers(),
        "monitoring/pod-monitors.yaml": pod_monitors(),
        "engines/network.yaml": engine_policies(),
    }
    return {
        **{path: _HEADER + to_yaml(objects) for path, objects in manifests.items()},
        **{f"base/settings/{name}.env": _env(values) for name, values in config_maps().items()},
        "base/kustomization.yaml": _HEADER + _base_kustomization(),
    }


def to_yaml(objects: Iterable[Object]) -> str:
    """A stream of documents, in the order of writing and without aliases."""
    return yaml.dump_all(
        objects, Dumper=_Plain, sort_keys=False, width=100, explicit_start=True, allow_unicode=True
    )


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - its interface
        """Everything is written out."""
        return True


def _env(values: Mapping[str, str]) -> str:
    return _HEADER + "".join(f"{name}={value}\n" for name, value in values.items())


def _base_kustomization() -> str:
    return to_yaml(
        [
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": ["services.yaml", *(f"{one.name}.yaml" for one in processes())],
                "configMapGenerator": [
                    *({"name": name, "envs": [f"settings/{name}.env"]} for name in config_maps()),
                    {"name": "drain", "files": ["drain.sh"]},
                ],
            }
        ]
    )


def write(folder: Path = HERE) -> None:
    """Write all files, and remove those of processes that there are no more."""
    wanted = files()
    for path in (folder / "base").glob("*.yaml"):
        if f"base/{path.name}" not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or print the rules."""
    match sys.argv[1:] if arguments is None else list(arguments):
        case []:
            write()
        case ["rules"]:
            sys.stdout.write(to_yaml(rules()))
        case _:
            print("usage: python -m deploy.k8s.render [rules]", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
