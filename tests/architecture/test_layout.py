"""Every service has the same rooms, and the lines that it also needs outside of its folder."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import yaml

from deploy.companion.programs import SERVICES

ROOT = Path(__file__).parents[2]
ROOMS = ("domain", "actions", "storage", "providers", "api", "tasks")
FILES = (
    *("__init__.py", "settings.py", "wiring.py", "app.py", "worker.py", "README.md"),
    *(f"{room}/__init__.py" for room in ROOMS),
    *("storage/tables.py", "storage/migrations/env.py", "storage/migrations/script.py.mako"),
)
# A module each, or a package of modules by topic once it has grown.
MODULES = ("domain/ports", "domain/errors")
# Who knows how one service is put together knows it of all.
WIRED_BY = {"wire", "wire_web", "build_actions"}


def services() -> list[str]:
    """Every folder below `services/` that holds a service."""
    folders = (ROOT / "services").iterdir()
    return sorted(f.name for f in folders if f.is_dir() and not f.name.startswith(("_", ".")))


def missing_files(service: str) -> Iterator[str]:
    folder = ROOT / "services" / service
    yield from (f"services/{service}/{name}" for name in FILES if not (folder / name).is_file())
    for name in MODULES:
        if not any((folder / f"{name}{end}").is_file() for end in (".py", "/__init__.py")):
            yield f"services/{service}/{name}.py"
    if not list(folder.glob("storage/migrations/versions/0001_*.py")):
        yield f"services/{service}/storage/migrations/versions/0001_….py"
    for package in sorted(folder.rglob("*.py")):
        if not (package.parent / "__init__.py").is_file():
            yield f"{package.parent.relative_to(ROOT)}/__init__.py"


def missing_lines(service: str) -> Iterator[str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    commands = dict(line.split(": ", 1) for line in lines if ": " in line and line[0].isalpha())
    if f"services.{service}.app" not in commands.get(service, ""):
        yield f"Procfile: a line `{service}:` that serves services.{service}.app"
    if f"services.{service}.worker:app" not in commands.get(f"{service}-worker", ""):
        yield f"Procfile: a line `{service}-worker:` that runs services.{service}.worker:app"
    if service not in commands.get("relay", "").split():
        yield f"Procfile: {service} in the line of the relay"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if service not in project["optional-dependencies"]:
        yield f"pyproject.toml: the extra {service!r}"
    if not (ROOT / "requirements" / f"{service}.txt").is_file():
        yield f"requirements/{service}.txt (make lock)"
    makefile = (ROOT / "Makefile").read_text().splitlines()
    named = next((line for line in makefile if line.startswith("SERVICES :=")), "")
    if service not in named.split():
        yield f"Makefile: {service} in SERVICES"
    if service not in SERVICES:
        yield f"deploy/companion/programs.py: {service} in SERVICES"
    containers = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    image = f"companion/{service}:"
    # Pools and workers may be several; of the rest there is one each.
    for role in ("", "-worker", "-beat", "-relay", "-prepare"):
        if not any(
            name.startswith(f"{service}{role}") and image in container["image"]
            for name, container in containers.items()
        ):
            yield f"docker-compose.yml: {service}{role}, of the image companion/{service}"


def test_every_service_is_complete() -> None:
    found = services()
    assert len(found) >= 5
    missing = [line for service in found for line in missing_files(service)]
    missing += [line for service in found for line in missing_lines(service)]
    assert not missing, "missing:\n" + "\n".join(missing)


def test_nothing_outside_names_a_service_that_is_gone() -> None:
    assert set(SERVICES) == set(services())


def test_a_service_says_what_it_is_about() -> None:
    silent = []
    for service in services():
        folder = ROOT / "services" / service
        if len((folder / "README.md").read_text().split()) < 50:
            silent.append(f"services/{service}/README.md")
        if not (folder / "__init__.py").read_text().lstrip().startswith('"""'):
            silent.append(f"services/{service}/__init__.py")
    assert not silent, "these explain too little: " + ", ".join(silent)


def listed_in(service: str) -> set[str]:
    """The modules whose classes `Actions` lists: what doors may ask of the service."""
    actions = import_module(f"services.{service}.actions").Actions
    return {listed.__module__ for listed in get_type_hints(actions).values()}


def holds_verb(module: ModuleType) -> bool:
    """Whether it holds a class of its own name that is called."""
    stem = module.__name__.rpartition(".")[2]
    own = getattr(module, "".join(word.capitalize() for word in stem.split("_")), None)
    return isinstance(own, type) and any("__call__" in vars(kind) for kind in own.__mro__)


def misnamed_actions(service: str) -> Iterator[str]:
    listed = listed_in(service)
    for file in sorted((ROOT / "services" / service / "actions").glob("*.py")):
        if file.stem == "__init__":
            continue
        name = f"services.{service}.actions.{file.stem}"
        is_action = name in listed or holds_verb(import_module(name))
        if is_action == file.stem.startswith("_"):
            needs = "no underscore" if is_action else "an underscore, or another room"
            yield f"{file.relative_to(ROOT)}: needs {needs}"


def test_the_files_of_actions_are_what_a_service_can_do() -> None:
    misnamed = [line for service in services() for line in misnamed_actions(service)]
    assert not misnamed, "\n".join(misnamed)


def test_a_noun_and_a_helper_are_no_verbs() -> None:
    assert "services.chat.actions.export_user" in listed_in("chat")
    assert holds_verb(import_module("services.chat.actions.withdraw_hold"))
    assert not holds_verb(import_module("services.chat.domain.running_turn"))
    assert not holds_verb(import_module("services.auth.actions._find_client"))


def test_every_service_is_wired_by_the_same_names() -> None:
    missing = {}
    for service in services():
        tree = ast.parse((ROOT / "services" / service / "wiring.py").read_text())
        functions = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if lacking := WIRED_BY - functions:
            missing[service] = lacking
    assert missing == {}
