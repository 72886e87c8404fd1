"""Dataclasses whose frozen kind costs no more than the other."""

from __future__ import annotations

import pickle
from dataclasses import field, fields, replace

import pytest

from shared.values import dataclass


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
