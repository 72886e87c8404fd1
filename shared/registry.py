"""Members that find their place by import: a family of named things in one package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named members of one family. A name used twice fails when its module is imported."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Add the decorated thing under `name`.

        Raises ValueError when the name is taken.
        """

        def add(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self._family} {name!r} is registered twice")
            self._members[name] = member
            return member

        return add

    def __getitem__(self, name: str) -> T:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def discover(package: str) -> None:
    """Import every public module of a package, so that its members register themselves."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package}.{module.name}")
