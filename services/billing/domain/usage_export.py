"""The ledger's rows as others get them: one table, in any format, by any way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, NewType
from uuid import UUID

from services.billing.domain.completeness import Progress
from services.billing.domain.ledger_chain import chain_on
from services.billing.domain.period import Period
from shared.clock import rfc3339
from shared.ids import UserId, first_id_at
from shared.values import dataclass

ExportId = NewType("ExportId", UUID)
FormatName = Literal["csv", "ndjson", "parquet"]

Row = Mapping[str, Any]
Rows = Sequence[Row]

# A promise to readers: columns are added at the end, and never renamed or removed.
COLUMNS: Mapping[str, str] = {
    "event_id": "uuid",
    "occurred_at": "moment",
    "received_at": "moment",
    "tier": "text",
    "operation": "text",
    "provider": "text",
    "model": "text",
    "source": "text",
    "outcome": "text",
    "input_tokens": "number",
    "cache_read_tokens": "number",
    "cache_write_tokens": "number",
    "output_tokens": "number",
    "output_reasoning_tokens": "number",
    "characters": "number",
    "units": "number",
    "unit": "text",
    "service_tier": "text",
    "request_id": "text",
    "provider_request_id": "text",
    "session_id": "uuid",
    "sandbox": "flag",
    "pricing_status": "text",
    "cost_microusd": "number",
    "cost_usd": "text",
    "price_version": "text",
    "record": "text",
    "correction_id": "uuid",
    "requests": "number",
    "unpriced_requests": "number",
    "user_id": "uuid",
    "producer": "text",
    "rated_at": "moment",
    "cached": "flag",
    "key_organisation_id": "uuid",
}
# Whose file it is needs no column, and who told us is none of theirs.
OWN_COLUMNS: Mapping[str, str] = {
    name: kind for name, kind in COLUMNS.items() if name not in ("user_id", "producer", "rated_at")
}
METERS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)


@dataclass(frozen=True, slots=True)
class UsageExport:
    """A file of everybody's usage that somebody of the billing team asked for.

    It holds what had come when it was asked for, however often it is fetched.
    """

    id: ExportId
    asked_by: UserId
    asked_at: datetime
    period: Period
    format: FormatName


@dataclass(frozen=True, slots=True)
class Day:
    """A day by the time in the events' ids: what one chain of the ledger covers."""

    date: date

    @property
    def period(self) -> Period:
        begins = datetime.combine(self.date, time(), UTC)
        return Period(begins, begins + timedelta(days=1))

    @property
    def first_id(self) -> UUID:
        return first_id_at(self.period.begins)

    @property
    def end_id(self) -> UUID:
        """The first id that is not in it."""
        return first_id_at(self.period.ends)

    @property
    def chain(self) -> int:
        return chain_on(self.date)


@dataclass(frozen=True, slots=True)
class DayState:
    """What the ledger holds of a day, and what of it was exported."""

    day: Day
    head: str | None
    corrections: int
    revision: int = 0
    exported: str = ""
    complete: bool = False
    checked_at: datetime | None = None

    @property
    def content(self) -> str:
        """Two states with the same content have the same rows: both only grow."""
        return f"{self.head or '0'} {self.corrections}"

    @property
    def has_changed(self) -> bool:
        return not self.revision or self.exported != self.content


@dataclass
class Tally:
    """Goes along with a day's rows and adds them up, the sandbox's apart."""

    usage_rows: int = 0
    correction_rows: int = 0
    sums: dict[str, dict[str, int]] = field(
        default_factory=lambda: {"live": _zero(), "sandbox": _zero()}
    )
    units: dict[str, dict[str, int]] = field(default_factory=lambda: {"live": {}, "sandbox": {}})

    def take(self, rows: Rows) -> None:
        """The next rows."""
        for row in rows:
            if row["record"] == "usage":
                self.usage_rows += 1
            else:
                self.correction_rows += 1
            where = "sandbox" if row["sandbox"] else "live"
            sums = self.sums[where]
            for name in sums:
                sums[name] += row[name] or 0
            if row["units"]:
                units = self.units[where]
                units[row["unit"]] = units.get(row["unit"], 0) + row["units"]

    def to_facts(self) -> dict[str, Any]:
        return {
            where: {**self.sums[where], "units": dict(sorted(self.units[where].items()))}
            for where in ("live", "sandbox")
        }


def _zero() -> dict[str, int]:
    return dict.fromkeys(("requests", "unpriced_requests", *METERS, "cost_microusd"), 0)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as its manifest tells it."""

    name: str
    format: FormatName
    rows: int
    bytes: int
    sha256: str

    def to_facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "format": self.format,
            "rows": self.rows,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


def manifest(
    state: DayState,
    tally: Tally,
    files: Iterable[FileFacts],
    missing: Sequence[str],
    *,
    written_at: datetime,
) -> dict[str, Any]:
    """What is written last into a day's folder, so that who finds it finds the rest."""
    return {
        "format": 1,
        "day": state.day.date.isoformat(),
        "revision": state.revision + 1,
        "complete": not missing,
        "incomplete_because": list(missing),
        "written_at": rfc3339(written_at),
        "rows": tally.usage_rows + tally.correction_rows,
        "usage_rows": tally.usage_rows,
        "correction_rows": tally.correction_rows,
        "sums": tally.to_facts(),
        "chain": {"number": state.day.chain, "head": state.head},
        "columns": list(COLUMNS),
        "files": [one.to_facts() for one in files],
    }


def silent_since(progress: Iterable[Progress], day: Day) -> list[str]:
    """Streams that were alive on the day, and said nothing after it: its end is not known."""
    begins, ends = day.period.begins, day.period.ends
    return [
        f"producer_not_heard_since:{one.stream.producer}/{one.stream.name}"
        for one in progress
        if one.last_seen_at is not None
        and one.last_seen_at >= begins
        and (one.last_manifest_at is None or one.last_manifest_at < ends)
    ]
