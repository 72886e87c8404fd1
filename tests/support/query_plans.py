"""How much a statement had to read, in PostgreSQL's words: unlike its time, always the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ROWS = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")


def most_rows(explained: Sequence[Mapping[str, Any]]) -> int:
    """The rows that the busiest step looked at, of an `explain (analyze, format json)`."""
    return max(_looked_at(step) for step in _steps(explained[0]["Plan"]))


def _looked_at(step: Mapping[str, Any]) -> int:
    # Each is the mean of the step's loops.
    return round(sum(float(step.get(name, 0)) for name in _ROWS) * int(step["Actual Loops"]))


def _steps(step: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield step
    for part in step.get("Plans", ()):
        yield from _steps(part)
