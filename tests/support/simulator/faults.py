"""Faults that were ordered over the control API."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from typing import Any

from tests.support.simulator.keys import DIGEST_LENGTH
from tests.support.simulator.options import Options, checked


@dataclass(slots=True)
class Fault:
    """Something to go wrong for the next `left` matching requests, or for all when that is None."""

    number: int
    vendor: str
    path: str
    key_sha256: str
    options: Options
    left: int | None

    def matches(self, vendor: str, path: str, key_sha256: str) -> bool:
        return (
            self.vendor in ("*", vendor)
            and fnmatchcase(path, self.path)
            and key_sha256.startswith(self.key_sha256)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "vendor": self.vendor,
            "path": self.path,
            "key_sha256": self.key_sha256,
            "options": self.options,
            "times_left": self.left,
        }


class FaultBook:
    """Faults in the order in which they were added; a request meets the first that matches it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._numbers = count(1)

    def add(self, order: Mapping[str, Any]) -> Fault:
        given = dict(order)
        vendor = str(given.pop("vendor", "*"))
        path = str(given.pop("path", "*"))
        key_sha256 = str(given.pop("key_sha256", ""))[:DIGEST_LENGTH]
        times = given.pop("times", 1)
        given["fault"] = given.pop("kind")
        left = int(times) if times else None
        number = next(self._numbers)
        fault = Fault(number, vendor, path, key_sha256, checked(given), left)
        self._faults.append(fault)
        return fault

    def take(self, vendor: str, path: str, key_sha256: str) -> Options | None:
        for fault in self._faults:
            if fault.matches(vendor, path, key_sha256):
                self._use_up(fault)
                return fault.options
        return None

    def _use_up(self, fault: Fault) -> None:
        if fault.left is None:
            return
        fault.left -= 1
        if fault.left <= 0:
            self._faults.remove(fault)

    def clear(self) -> None:
        self._faults.clear()

    def as_json(self) -> list[dict[str, Any]]:
        return [fault.as_json() for fault in self._faults]
