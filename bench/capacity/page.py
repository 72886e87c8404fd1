"""Puts the computed tables into docs/capacity.md: `python -m bench.capacity.page`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bench.capacity import model
from bench.capacity.__main__ import report

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"


def _burst() -> str:
    return report("free", 30, seed=8)


TABLES: Mapping[str, Callable[[], str]] = {**model.TABLES, "burst": _burst}


def with_tables(page: str) -> str:
    """The page with each table between its two marks made anew."""
    for name, table in TABLES.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not begin or not end:
            raise ValueError(f"{PAGE.name} has no place for {name}")
        page = f"{before}{begin}{table()}\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
