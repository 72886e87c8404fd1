"""Lays out an image's own code: `... .recipe.rooms SOURCE SERVICE TARGET`.

A service gets what all share and its own rooms, never another's: a forbidden import fails at start.
"""

import compileall
import py_compile
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

SERVICES = ("auth", "billing", "chat", "keyvault", "voice")


class NoSuchImage(Exception):
    """The recipe is asked for something that is neither a service nor one of the two others."""


def rooms_of(service: str) -> Sequence[str]:
    """The folders and files of the source that an image holds."""
    if service in SERVICES:
        return ("shared", "services/__init__.py", f"services/{service}")
    if service == "tools":
        return ("shared", "services", "deploy")
    if service == "simulator":
        return ("tests/support/simulator",)
    raise NoSuchImage(f"SERVICE is {service!r}; it may be {', '.join(SERVICES)}, tools, simulator.")


def lay_out(source: Path, service: str, target: Path) -> None:
    for room in rooms_of(service):
        here, there = source / room, target / room
        there.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir():
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__", "README.md"))
        else:
            shutil.copy2(here, there)
    compileall.compile_dir(
        target,
        quiet=2,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=str(target),
        prependdir="/app",
    )


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
