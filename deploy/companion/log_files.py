"""The processes' log files, as companion shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_LARGEST_TAIL = 65536


def last_lines(path: Path, count: int = 20) -> list[str]:
    """The end of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LARGEST_TAIL))
            return file.read(_LARGEST_TAIL).decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


class Follower:
    """Yields the lines that are added to several logs, over their rotation."""

    def __init__(self, logs: Mapping[str, Path]) -> None:
        self._logs = dict(logs)
        self._positions = {name: _size(path) for name, path in self._logs.items()}

    def new_lines(self) -> Iterator[tuple[str, str]]:
        """The lines added since the last call, each with the name of its log."""
        for name, path in self._logs.items():
            size = _size(path)
            if size < self._positions[name]:
                # The log was rotated: what it holds now is all new.
                self._positions[name] = 0
            if size > self._positions[name]:
                yield from ((name, line) for line in self._read(name, path))

    def _read(self, name: str, path: Path) -> list[str]:
        try:
            with path.open("rb") as file:
                file.seek(self._positions[name])
                added = file.read()
        except OSError:
            return []
        # A line is shown once it is whole.
        whole = added.rpartition(b"\n")[0]
        if not whole and not added.startswith(b"\n"):
            return []
        self._positions[name] += len(whole) + 1
        return whole.decode(errors="replace").splitlines()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
