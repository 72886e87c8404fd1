"""The result: a table for people, kept in `docs/proof.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date
from pathlib import Path

from deploy.proof.rounds import Figures
from shared.values import dataclass

MARK = "<!-- measured: written by `python -m deploy.proof` -->"

_HEADINGS = (
    "fault",
    "turns",
    "answered",
    "user-visible errors",
    "slowest",
    "recovery",
    "lost",
    "double",
    "estimated",
    "",
)


@dataclass(frozen=True, slots=True)
class Check:
    """Something beside the faults that had to be so."""

    name: str
    result: str
    good: bool


@dataclass(frozen=True, slots=True)
class Result:
    """All that was found out."""

    on: date
    versions: Mapping[str, str]
    checks: Sequence[Check]
    rounds: Sequence[Figures]
    details: Sequence[str] = field(default_factory=tuple)

    @property
    def good(self) -> bool:
        """Whether every bound was kept."""
        return all(check.good for check in self.checks) and not any(
            figures.broken for figures in self.rounds
        )


def table(result: Result) -> list[str]:
    """Markdown that reads well in a terminal."""
    rows = [_HEADINGS, *map(_row, result.rounds)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def _row(figures: Figures) -> tuple[str, ...]:
    errors = ", ".join(f"{count} × {label}" for label, count in sorted(figures.errors.items()))
    return (
        figures.name,
        str(figures.turns),
        str(figures.answered),
        errors or "none",
        f"{figures.slowest_seconds:.1f} s",
        f"{figures.recovery_seconds:.1f} s",
        str(figures.lost),
        str(figures.double),
        str(figures.estimates),
        "broken" if figures.broken else "kept",
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    )


def document(result: Result) -> str:
    """The measured part of `docs/proof.md`."""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    broken = [f"- {f.name}: {what}" for f in result.rounds for what in f.broken]
    return (
        "\n".join(
            [
                f"## Measured on {result.on.isoformat()}",
                "",
                f"On {versions}.",
                "",
                "| what | result | |",
                "|---|---|---|",
                *(
                    f"| {c.name} | {c.result} | {'kept' if c.good else 'broken'} |"
                    for c in result.checks
                ),
                "",
                *table(result),
                "",
                *(["Bounds that were broken:", "", *broken, ""] if broken else []),
                *result.details,
            ]
        ).rstrip()
        + "\n"
    )


def keep(result: Result, path: Path, mark: str = MARK) -> None:
    """Put the measured part, which begins at the mark, in the place of the one of before."""
    before = path.read_text().partition(mark)[0]
    path.write_text(f"{before}{mark}\n\n{document(result)}")
