"""The archive's records as rows of an export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from services.billing.domain.export_ports import ArchivedRows
from services.billing.domain.ledger_chain import ENTRY, RATED_ENTRY, RATING
from services.billing.domain.ledger_ports import ArchiveFiles
from services.billing.domain.price_book import CACHED
from services.billing.domain.usage_export import COLUMNS, Rows
from shared.money import dollars_text
from shared.values import dataclass

_RATING = ("cost_microusd", "price_version", "rated_at")
_IDS = ("event_id", "user_id", "session_id", "key_organisation_id")
_NOT_RATED: tuple[Any, ...] = (None, None, None)


@dataclass(frozen=True, slots=True)
class ArchivedUsage(ArchivedRows):
    """Reads a partition twice: what was rated later has its rating in a record of its own, further
    down. Memory holds those ratings, and a page."""

    files: ArchiveFiles

    def read(self, partition: str) -> Iterator[Rows]:
        ratings = {
            UUID(record["event_id"]): tuple(record[name] for name in _RATING)
            for page in self.files.read(partition)
            for record in page
            if record["kind"] == RATING
        }
        for page in self.files.read(partition):
            yield [
                _row(record, ratings) for record in page if record["kind"] in (ENTRY, RATED_ENTRY)
            ]


def _row(record: Mapping[str, Any], ratings: Mapping[UUID, tuple[Any, ...]]) -> dict[str, Any]:
    ids = {name: UUID(record[name]) if record.get(name) else None for name in _IDS}
    rating = tuple(record[name] for name in _RATING)
    if record["kind"] == ENTRY:
        rating = ratings.get(UUID(record["event_id"]), _NOT_RATED)
    rated = dict(zip(_RATING, rating, strict=True))
    is_rated = rated["cost_microusd"] is not None
    known = {
        **record,
        **ids,
        **rated,
        "pricing_status": "rated" if is_rated else "unknown_price",
        "cost_usd": dollars_text(rated["cost_microusd"]),
        "record": "usage",
        "correction_id": None,
        "requests": 1,
        "unpriced_requests": int(not is_rated),
        # The file has no note of it, and needs none: nothing else is rated so.
        "cached": rated["price_version"] == CACHED.price_version,
    }
    return {name: known[name] for name in COLUMNS}
