"""Event types and error codes are promises to others: unique, well formed, where one looks."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

import services
import shared
from shared.errors import ExpectedFailure
from shared.events import CATALOGUE, Event
from shared.http.errors import STATUS

# Building these reads the environment or talks to a terminal.
_PROGRAMS = (".worker", ".migrations", ".__main__")


def import_everything() -> None:
    """Import every module of ours, so that each class has declared itself."""
    for package in (services, shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(part in module.name for part in _PROGRAMS):
                importlib.import_module(module.name)


def ours(base: type[ExpectedFailure]) -> Iterator[type[ExpectedFailure]]:
    """Every class below `base` that is part of the product."""
    for kind in base.__subclasses__():
        if kind.__module__.startswith(("services.", "shared.")):
            yield kind
        yield from ours(kind)


@pytest.fixture(scope="module")
def failures() -> list[type[ExpectedFailure]]:
    """Every expected failure of the suite."""
    import_everything()
    return sorted(set(ours(ExpectedFailure)), key=lambda kind: (kind.__module__, kind.__name__))


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def test_codes_are_snake_case(failures: list[type[ExpectedFailure]]) -> None:
    assert len(failures) > 20
    odd = [name_of(k) for k in failures if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", k.code)]
    assert not odd, f"codes that are not snake_case: {', '.join(odd)}"


def test_codes_are_unique(failures: list[type[ExpectedFailure]]) -> None:
    by_code: dict[str, list[str]] = defaultdict(list)
    for kind in failures:
        # One with its parent's code has chosen to look like it.
        if kind.code != getattr(kind.__base__, "code", None):
            by_code[kind.code].append(name_of(kind))
    twice = [f"{code}: {', '.join(names)}" for code, names in by_code.items() if len(names) > 1]
    assert not twice, "codes with more than one meaning:\n" + "\n".join(twice)


def test_every_failure_belongs_to_a_family(failures: list[type[ExpectedFailure]]) -> None:
    strays = [name_of(kind) for kind in failures if not set(kind.__mro__) & set(STATUS)]
    assert not strays, f"no status for: {', '.join(strays)}"


def test_a_familys_own_code_is_not_shown_by_accident(
    failures: list[type[ExpectedFailure]],
) -> None:
    plain = {family.code for family in STATUS}
    unnamed = [
        name_of(kind)
        for kind in failures
        if kind.__module__.startswith("services.")
        and kind.code in plain
        and "code" not in vars(kind)
    ]
    assert not unnamed, f"failures of services without a code: {', '.join(unnamed)}"


def events() -> list[type[Event]]:
    return [kind for kind in CATALOGUE.values() if kind.__module__.startswith("shared.events.")]


def test_event_types_are_well_formed_and_where_one_looks() -> None:
    assert len(events()) >= 8
    odd = []
    for event in events():
        subject = event.__module__.rpartition(".")[2]
        if not re.fullmatch(rf"{subject}\.[a-z]+(_[a-z]+)*", event.type):
            odd.append(f"{event.type} in shared/events/{subject}.py")
        expected = "".join(word.capitalize() for word in re.split(r"[._]", event.type))
        if event.__name__ != expected:
            odd.append(f"{event.type} is called {event.__name__} and not {expected}")
    assert not odd, "\n".join(odd)


def test_no_event_has_a_secret() -> None:
    words = re.compile(r"password|secret|api_key|token$|ciphertext|credential")
    odd = [
        f"{event.type}.{name}"
        for event in events()
        for name in event.model_fields
        if words.search(name)
    ]
    assert not odd, f"fields that look like secrets: {', '.join(odd)}"
