"""The ledger's rows as a file that is read while it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from uuid import UUID

from services.billing.actions.list_usage import ExportUsage
from services.billing.domain.errors import ArchiveUnreadable
from services.billing.domain.export_ports import ArchivedRows, FileFormat
from services.billing.domain.ledger import Entry
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork, Position
from services.billing.domain.usage_export import OWN_COLUMNS, Day, FormatName, Row, Rows
from shared.ids import UserId
from shared.money import dollars_text
from shared.page_by_page import page_by_page
from shared.values import dataclass

PAGE = 2_000
_NO_ID = UUID(int=0)

Formats = Mapping[FormatName, FileFormat]


@dataclass(frozen=True, slots=True)
class ReadRows:
    """All rows of a day or a period, page by page, those in the archive's files among them: no
    transaction waits for a slow reader, and memory holds a page."""

    unit_of_work: NewUnitOfWork
    archive: ArchivedRows | None

    async def of_day(self, day: Day) -> AsyncIterator[Rows]:
        """By the time in their ids, each followed later by its corrections."""
        async with self.unit_of_work() as work:
            archived = await work.usage_rows.archived_on(day)
        corrected: dict[UUID, Row] = {}
        for partition in archived:
            async for page in self._archived(partition, corrected):
                yield [row for row in page if day.first_id <= row["event_id"] < day.end_id]
        async for page in self._entries(day.first_id, day.end_id, None, None):
            yield page

        async def corrections(after: UUID | None) -> Rows:
            async with self.unit_of_work() as work:
                return await work.usage_rows.corrections_on(
                    day, after=after or _NO_ID, up_to=None, most=PAGE
                )

        async for page in page_by_page(corrections, PAGE, itemgetter("correction_id")):
            yield [_with_entry(row, corrected) for row in page]
        async with self.unit_of_work() as work:
            _must_be_the_same(archived, await work.usage_rows.archived_on(day))

    async def within(self, period: Period, *, up_to: datetime | None) -> AsyncIterator[Rows]:
        """What happened in a period and had come by a moment."""
        async with self.unit_of_work() as work:
            archived = await work.usage_rows.archived_within(period)
            bounds = await work.usage_rows.bounds(period)
        corrected: dict[UUID, Row] = {}
        for partition in archived:
            async for page in self._archived(partition, corrected):
                yield [row for row in page if _is_within(row, period, up_to)]
        if bounds is not None:
            first, last = bounds
            async for page in self._entries(first, UUID(int=last.int + 1), period, up_to):
                yield page

        async def corrections(after: UUID | None) -> Rows:
            async with self.unit_of_work() as work:
                return await work.usage_rows.corrections_within(
                    period, after=after or _NO_ID, up_to=up_to, most=PAGE
                )

        async for page in page_by_page(corrections, PAGE, itemgetter("correction_id")):
            yield [_with_entry(row, corrected) for row in page]
        async with self.unit_of_work() as work:
            _must_be_the_same(archived, await work.usage_rows.archived_within(period))

    def _entries(
        self, first: UUID, end: UUID, within: Period | None, up_to: datetime | None
    ) -> AsyncIterator[Rows]:
        async def read(last: UUID | None) -> Rows:
            begin = first if last is None else UUID(int=last.int + 1)
            async with self.unit_of_work() as work:
                return await work.usage_rows.entries(
                    begin, end, within=within, up_to=up_to, most=PAGE
                )

        return page_by_page(read, PAGE, itemgetter("event_id"))

    async def _archived(self, partition: str, corrected: dict[UUID, Row]) -> AsyncIterator[Rows]:
        """`corrected` gets those that were corrected, and have what their corrections are shown
        with."""
        if self.archive is None:  # a file without those rows would be a lie
            raise ArchiveUnreadable(partition)
        pages = self.archive.read(partition)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            telling = {
                row["event_id"]: row for row in page if row["units"] or row["key_organisation_id"]
            }
            if telling:
                async with self.unit_of_work() as work:
                    corrections = await work.usage_rows.corrections_of(list(telling))
                corrected.update((row["event_id"], telling[row["event_id"]]) for row in corrections)
            yield page


def _must_be_the_same(before: Sequence[str], after: Sequence[str]) -> None:
    # A partition that left the database while we read it may have left us without its rest.
    for partition in after:
        if partition not in before:
            raise ArchiveUnreadable(partition)


def _with_entry(row: Row, corrected: Mapping[UUID, Row]) -> Row:
    """A correction of what is in a file, with what that says of it."""
    entry = corrected.get(row["event_id"])
    if entry is None:
        return row
    known = {**row, "key_organisation_id": entry["key_organisation_id"]}
    if row["record"] == "voided" and entry["units"]:
        known |= {"units": -entry["units"], "unit": entry["unit"]}
    return known


def _is_within(row: Row, period: Period, up_to: datetime | None) -> bool:
    return bool(
        period.begins <= row["occurred_at"] < period.ends
        and (up_to is None or row["received_at"] < up_to)
    )


async def encoded(
    pages: AsyncIterator[Rows], format_: FileFormat, columns: Mapping[str, str]
) -> AsyncIterator[bytes]:
    """The pages in a format. Encoding is work for another thread: others wait for this loop."""
    encoder = await asyncio.to_thread(format_.begin, columns)
    async for page in pages:
        piece = await asyncio.to_thread(encoder.rows, page)
        if piece:
            yield piece
    yield await asyncio.to_thread(encoder.end)


@dataclass(frozen=True, slots=True)
class ExportOwnUsage:
    """A user's entries as a file, the newest first, each page followed by its corrections."""

    unit_of_work: NewUnitOfWork
    export_usage: ExportUsage
    formats: Formats

    def __call__(
        self,
        user_id: UserId,
        format_: FormatName,
        *,
        period: Period,
        after: Position | None,
        most: int | None,
    ) -> AsyncIterator[bytes]:
        pages = self.export_usage(user_id, period=period, after=after, most=most)
        return encoded(self._rows(pages), self.formats[format_], OWN_COLUMNS)

    async def _rows(self, pages: AsyncIterator[Sequence[Entry]]) -> AsyncIterator[Rows]:
        async for page in pages:
            async with self.unit_of_work() as work:
                corrections = await work.usage_rows.corrections_of([e.event_id for e in page])
            yield [*map(row_of, page), *corrections]


def row_of(entry: Entry) -> Row:
    """An entry as a row of a file."""
    counts, rating = entry.counts, entry.rating
    return {
        "event_id": entry.event_id,
        "occurred_at": entry.occurred_at,
        "received_at": entry.received_at,
        "tier": entry.tier,
        "operation": entry.operation,
        "provider": entry.provider,
        "model": entry.model,
        "source": entry.source,
        "outcome": entry.outcome,
        "input_tokens": counts.input_tokens,
        "cache_read_tokens": counts.cache_read_tokens,
        "cache_write_tokens": counts.cache_write_tokens,
        "output_tokens": counts.output_tokens,
        "output_reasoning_tokens": counts.output_reasoning_tokens,
        "characters": counts.characters,
        "units": counts.units,
        "unit": entry.unit,
        "service_tier": entry.service_tier,
        "request_id": entry.request_id,
        "provider_request_id": entry.provider_request_id,
        "session_id": entry.session_id,
        "sandbox": entry.sandbox,
        "pricing_status": "rated" if rating else "unknown_price",
        "cost_microusd": rating.cost if rating else None,
        "cost_usd": dollars_text(rating.cost) if rating else None,
        "price_version": rating.price_version if rating else None,
        "record": "usage",
        "correction_id": None,
        "requests": 1,
        "unpriced_requests": 0 if rating else 1,
        "user_id": entry.user_id,
        "producer": entry.producer,
        "rated_at": entry.rated_at,
        "cached": entry.cached,
        "key_organisation_id": entry.key_organisation_id,
    }
