"""Dataclasses whose frozen kind costs no more than the other."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import InitVar, field, fields
from typing import Any

import pytest

from shared.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    labels: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Named(Point):
    name: str = ""

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass
class Counter:
    count: int = 0


@dataclass(frozen=True, eq=False)
class Handle:
    number: int


@dataclass(frozen=True, slots=True)
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError("a positive number")


@dataclass(frozen=True, slots=True)
class Summed:
    first: int
    second: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.first + self.second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelt:
    name: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Scaled:
    by: InitVar[int] = 2
    size: int = 1

    def __post_init__(self, by: int) -> None:
        object.__setattr__(self, "size", self.size * by)


@dataclass(frozen=True, slots=True)
class Both(Spelt):
    last: int = 0


@dataclass(frozen=True, slots=True)
class Empty:
    pass


@dataclass(init=False)
class Unmade:
    first: int = 1
    second: int = 2


CHANGES: list[tuple[Any, dict[str, Any]]] = [
    (Empty(), {}),
    (Point(1, 2, ("far",)), {}),
    (Point(1, 2, ("far",)), {"x": 5, "labels": ()}),
    (Named(1, name="here"), {"name": "there"}),
    (Counter(3), {"count": 4}),
    (Positive(3), {"number": 4}),
    (Summed(1, 2), {"second": 7}),
    (Spelt(name="here", number=1), {"name": "there"}),
    (Scaled(size=3), {"by": 2, "size": 5}),
    (Both(5, name="here"), {"last": 6, "number": 2}),
]


@pytest.mark.parametrize(("value", "changes"), CHANGES, ids=lambda it: type(it).__name__)
def test_with_other_values_it_is_what_the_standard_library_makes(
    value: Any, changes: dict[str, Any]
) -> None:
    before = repr(value)
    made = replace(value, **changes)
    assert repr(made) == repr(dataclasses.replace(value, **changes))
    assert type(made) is type(value)
    assert made is not value
    assert repr(value) == before


def test_what_can_not_be_replaced_is_refused_as_there() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        replace(Point(1), z=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="init=False"):
        replace(Summed(1), total=2)
    with pytest.raises(ValueError, match="a positive number"):
        replace(Positive(1), number=0)


@pytest.mark.parametrize("value", [Unmade(), 1, None, Point], ids=repr)
def test_what_is_not_made_of_its_fields_is_refused_as_there(value: Any) -> None:
    with pytest.raises(TypeError) as ours:
        replace(value)
    with pytest.raises(TypeError) as theirs:
        dataclasses.replace(value)
    assert str(ours.value) == str(theirs.value)


def test_a_frozen_one_is_its_values() -> None:
    assert Point(1, 2) == Point(1, 2, ("far",))
    assert {Point(1, 2), Point(1, 2, ("far",)), Point(2, 1)} == {Point(1, 2), Point(2, 1)}
    assert replace(Point(1), y=3) == Point(1, 3)
    assert [each.name for each in fields(Point)] == ["x", "y", "labels"]
    assert not hasattr(Point(1), "__dict__")
    assert pickle.loads(pickle.dumps(Point(1, 2, ("far",)))).labels == ("far",)
    assert repr(Point(1)) == "Point(x=1, y=0, labels=())"


def test_a_hash_of_its_own_stays() -> None:
    assert hash(Named(1, name="here")) == hash("here")


def test_one_that_changes_has_no_hash() -> None:
    counter = Counter()
    counter.count += 1
    assert counter == Counter(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(counter)


def test_one_that_is_itself_alone_keeps_the_hash_of_that() -> None:
    one = Handle(1)
    assert one != Handle(1)
    assert {one: "known"}[one] == "known"


def test_what_checks_its_fields_still_does() -> None:
    with pytest.raises(ValueError, match="positive"):
        Positive(0)
