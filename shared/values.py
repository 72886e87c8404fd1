"""Frozen dataclasses whose fields nobody sets anew, as the type checker sees to it.

The standard library's also see to it while they run: each field of a new object is set through
`object.__setattr__`, which takes an object of five fields 0.56 µs in place of 0.15. A turn makes
hundreds of them (docs/decisions/0104-values.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import replace as replace
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, **options: Any) -> Any:
        """`dataclasses.dataclass` with all its options. A frozen one can be hashed and is not to be
        changed; only a type checker refuses to."""
        if cls is None:
            return lambda each: dataclass(each, frozen=frozen, **options)
        has_hash = "__hash__" in cls.__dict__ or not options.get("eq", True)
        return dataclasses.dataclass(cls, unsafe_hash=frozen and not has_hash, **options)

    def replace(value: Any, /, **changes: Any) -> Any:
        """`dataclasses.replace` in a third of its time: it reads the fields one by one."""
        plain = _plain_fields(type(value))
        if plain is None:
            return dataclasses.replace(value, **changes)
        read, places = plain
        fields = list(read(value))
        for name, new in changes.items():
            place = places.get(name)
            if place is None:
                return dataclasses.replace(value, **changes)  # which says what is wrong with it
            fields[place] = new
        return type(value)(*fields)


@cache
def _plain_fields(
    cls: type,
) -> tuple[Callable[[object], tuple[Any, ...]], Mapping[str, int]] | None:
    """How to read all fields of a class, and the place of each among its constructor's arguments;
    None where these are others, it has fewer than two, or is no dataclass."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    names = [field.name for field in fields]
    made_by = getattr(cls.__init__, "__code__", None)  # type: ignore[misc]
    if len(names) < 2 or made_by is None:
        return None
    if [*made_by.co_varnames[1 : made_by.co_argcount]] != names:
        return None
    return attrgetter(*names), {name: place for place, name in enumerate(names)}
