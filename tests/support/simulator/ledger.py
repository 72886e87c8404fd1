"""What was served: every request that asked for something to be generated."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any, Final

CAPACITY: Final = 100_000


@dataclass(slots=True)
class Served:
    """One request and how it went; `outcome` stays `running` until it is known."""

    number: int
    vendor: str
    path: str
    key_sha256: str
    model: str = ""
    stream: bool = False
    response_id: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    chunks: int = 0
    outcome: str = "running"
    status: int = 0
    fault: str = ""
    brought_back: int = 0
    started_at: float = field(default_factory=time.time)
    finished_at: float | None = None
    #: Usage of an answer that ended early, given how many chunks were written.
    usage_after: Callable[[int], dict[str, int]] | None = None

    def finish(self, outcome: str, status: int = 200) -> None:
        """The first word stands: after a cut the lost connection adds nothing."""
        if self.finished_at is not None:
            return
        if outcome != "completed":
            self.usage = self.usage_after(self.chunks) if self.usage_after else {}
        self.usage_after = None
        self.outcome, self.status, self.finished_at = outcome, status, time.time()

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SHOWN}


_SHOWN: Final = tuple(each.name for each in fields(Served) if each.name != "usage_after")


class Ledger:
    """The latest requests, oldest first; numbers go on after a wipe."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._entries: deque[Served] = deque(maxlen=capacity)
        self._numbers = count(1)

    def open(self, vendor: str, path: str, key_sha256: str) -> Served:
        served = Served(next(self._numbers), vendor, path, key_sha256)
        self._entries.append(served)
        return served

    def __iter__(self) -> Iterator[Served]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def wipe(self) -> None:
        self._entries.clear()
