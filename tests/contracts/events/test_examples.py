"""What was once published must be read for ever: an example of each event type, kept as it was.

A new type needs `examples/<type>.json`, and a new field one in `examples/later`. An example is
never changed: a change that it does not survive is a new major version of the type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.events import CATALOGUE, Fact

EXAMPLES = Path(__file__).parent / "examples"
LATER = sorted((EXAMPLES / "later").glob("*.json"), key=lambda path: path.name)
TYPES = sorted(t for t, event in CATALOGUE.items() if event.__module__.startswith("shared.events."))


def example_of(type_: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((EXAMPLES / f"{type_}.json").read_text())
    return stored


def test_every_type_has_an_example_and_every_example_a_type() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.json")) == TYPES


@pytest.mark.parametrize("type_", TYPES)
def test_the_stored_example_is_still_read(type_: str) -> None:
    stored = example_of(type_)
    fact = Fact.from_wire(stored)
    assert (fact.event.type, type(fact.event)) == (type_, CATALOGUE[type_])
    told = fact.to_wire()
    # Nothing that was said is lost or said otherwise; what is new has a default.
    assert told.items() >= {n: v for n, v in stored.items() if n not in {"data", "time"}}.items()
    assert told["data"].items() >= stored["data"].items()


@pytest.mark.parametrize("type_", TYPES)
def test_the_example_of_version_1_names_every_required_field(type_: str) -> None:
    required = {
        name for name, field in CATALOGUE[type_].model_fields.items() if field.is_required()
    }
    # A field that is required today and was absent then would shut out what is already on its way.
    assert required <= set(example_of(type_)["data"])


@pytest.mark.parametrize("path", LATER, ids=lambda path: path.stem)
def test_an_example_with_later_fields_loses_nothing(path: Path) -> None:
    stored = json.loads(path.read_text())
    assert Fact.from_wire(stored).to_wire()["data"].items() >= stored["data"].items()
