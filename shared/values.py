"""Frozen dataclasses whose fields nobody sets anew, as the type checker sees to it.

The standard library's also see to it while they run: each field of a new object is set through
`object.__setattr__`, which takes an object of five fields 0.56 µs in place of 0.15. A turn makes
hundreds of them (docs/decisions/0104-values.md).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, **options: Any) -> Any:
        """`dataclasses.dataclass` with all its options. A frozen one can be hashed and is not to be
        changed; only a type checker refuses to."""
        if cls is None:
            return lambda each: dataclass(each, frozen=frozen, **options)
        has_hash = "__hash__" in cls.__dict__ or not options.get("eq", True)
        return dataclasses.dataclass(cls, unsafe_hash=frozen and not has_hash, **options)
