"""Reading a JSON body by hand where a vendor's wire is wider than any one model of it.

What is read is checked, and named in the error when it is wrong; what is not asked for is ignored,
as the vendors do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import orjson

from shared.vendors.dropins import BadParameter, UnreadableBody

_MOST_ITEMS = 10_000
# Requests and answers stand some levels higher than what was sent.
_DEEPEST = 200
_WRITABLE = 254


def json_object(body: bytes) -> Fields:
    """The body as an object. Raises UnreadableBody."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody from error
    if not isinstance(parsed, dict):
        raise UnreadableBody
    return Fields(parsed)


def require_writable(fields: Fields, *names: str) -> None:
    """That these fields can be repeated as they were sent, to a vendor or in an answer. Raises
    BadParameter for one that is nested deeper than can be written."""
    for name in names:
        if _is_deeper(fields.raw(name), _DEEPEST):
            raise fields.wrong(name, f"at most {_DEEPEST} levels deep")


def _is_deeper(value: Any, levels: int) -> bool:
    # Written below so many levels that no more than these are left to it: a hundred times sooner
    # done than to walk through it.
    if not isinstance(value, dict | list):
        return False
    for _ in range(_WRITABLE - levels):
        value = [value]
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False


class Fields:
    """An object of the body. Every method answers None for what is absent or null, and raises
    BadParameter for what is of another form."""

    __slots__ = ("_path", "_values")

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    @property
    def place(self) -> str:
        """Where in the body it stands."""
        return self._path.rstrip(".")

    @property
    def whole(self) -> Mapping[str, Any]:
        """The object as it was sent."""
        return self._values

    def raw(self, name: str) -> Any:
        """The value as it was sent."""
        return self._values.get(name)

    def wrong(self, name: str, rule: str) -> BadParameter:
        """The error about a field: it has to be `rule`."""
        return BadParameter(self._path + name, rule)

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "a text")

    def needed_text(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise self.wrong(name, "a text that is not empty")
        return value

    def flag(self, name: str) -> bool | None:
        value = self._values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "true or false")

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number")
        if not low <= value <= high:
            raise self.wrong(name, f"between {low:g} and {high:g}")
        return float(value)

    def count(self, name: str, low: int = 1) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.wrong(name, f"a whole number of at least {low}")
        return int(value)

    def word(self, name: str, words: Collection[str]) -> str | None:
        value = self.text(name)
        if value is not None and value not in words:
            raise self.wrong(name, "one of " + ", ".join(sorted(words)))
        return value

    def object(self, name: str) -> Fields | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, f"{self._path}{name}.")

    def needed_object(self, name: str) -> Fields:
        value = self.object(name)
        if value is None:
            raise self.wrong(name, "an object")
        return value

    def objects(self, name: str) -> Iterator[Fields]:
        """The objects of a list; none when it is absent."""
        value = self._values.get(name)
        if value is None:
            return
        if not isinstance(value, list) or len(value) > _MOST_ITEMS:
            raise self.wrong(name, "a list of objects")
        for i, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.wrong(f"{name}[{i}]", "an object")
            yield Fields(item, f"{self._path}{name}[{i}].")

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A text, or a list of up to `most` texts."""
        value = self._values.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(name, f"a text or a list of up to {most}")
        if not all(isinstance(item, str) for item in value):
            raise self.wrong(name, f"a text or a list of up to {most}")
        return tuple(value)
