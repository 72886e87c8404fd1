"""Sums in answers, told twice: whole micro-dollars, and a decimal string of dollars beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import reduce
from inspect import get_annotations
from operator import or_
from types import GenericAlias, SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, computed_field

from shared.money import MicroDollars, dollars_text

_MICRO, _WHOLE = "microusd", "usd"


class DollarsBeside(BaseModel):
    """An answer whose every field `…microusd…` has the same in dollars beside it, under that name
    with `usd`: a string with six places, null for null, a list for a list.

    They are no fields to make one from, only part of what is written and of its schema. A twin that
    a body declares by itself stays what it is. Not for what is read: there one number counts.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        # Before pydantic looks for computed fields, which it does once the class is there.
        super().__init_subclass__(**options)
        for name, kind in _sums_of(cls).items():
            twin = name.replace(_MICRO, _WHOLE)
            if not _has(cls, twin):
                setattr(cls, twin, _twin_of(name, kind))


def in_dollars(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs beside the micro-dollars among these facts; nothing where there are none."""
    return {
        name.replace(_MICRO, _WHOLE): _told(fact) for name, fact in facts.items() if _MICRO in name
    }


def _sums_of(cls: type) -> dict[str, Any]:
    """The fields in micro-dollars with their types, those that it inherits as well."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        own = get_annotations(base)
        sums = {name: kind for name, kind in own.items() if _MICRO in name}
        # Only theirs: another field may be of a type that is not there yet.
        told = SimpleNamespace(__annotations__=sums)
        found |= get_type_hints(told, vars(sys.modules[base.__module__]))
    return found


def _has(cls: type, name: str) -> bool:
    return any(name in vars(base) or name in get_annotations(base) for base in cls.__mro__)


def _twin_of(name: str, kind: Any) -> Any:
    def told(body: BaseModel) -> Any:
        return _told(getattr(body, name))

    return computed_field(return_type=_told_as(kind))(property(told))


def _told(amount: Any) -> Any:
    return [_told(one) for one in amount] if isinstance(amount, list) else dollars_text(amount)


def _told_as(kind: Any) -> Any:
    """The type of the strings: of `int | None`, `str | None`."""
    if kind in (int, MicroDollars):
        return str
    if kind is type(None):
        return None
    inner = [_told_as(one) for one in get_args(kind)]
    return GenericAlias(list, tuple(inner)) if get_origin(kind) is list else reduce(or_, inner)
