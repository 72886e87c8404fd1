"""Files of everybody's usage, for the billing team."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from services.billing.actions.export_records import Formats, ReadRows, encoded
from services.billing.domain.errors import BadPeriod, ExportNotFound
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.usage_export import COLUMNS, ExportId, FormatName, UsageExport
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AskForExport:
    """Fix what a file is to hold, and note who asked for it."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, period: Period, format_: FormatName, *, by: UserId) -> UsageExport:
        """Raises BadPeriod for one without any length."""
        if period.begins >= period.ends:
            raise BadPeriod("The period ends before it begins.")
        export = UsageExport(ExportId(uuid7()), by, self.clock.now(), period, format_)
        async with self.unit_of_work() as work:
            await work.usage_exports.add(export)
        return export


@dataclass(frozen=True, slots=True)
class ListExports:
    """What was asked for, the newest first."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, *, before: ExportId | None, most: int) -> Sequence[UsageExport]:
        async with self.unit_of_work() as work:
            return await work.usage_exports.newest(before=before, most=most)


@dataclass(frozen=True, slots=True)
class ShowExport:
    """One of them. Raises ExportNotFound."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, export_id: ExportId) -> UsageExport:
        async with self.unit_of_work() as work:
            export = await work.usage_exports.get(export_id)
        if export is None:
            raise ExportNotFound(export_id)
        return export


@dataclass(frozen=True, slots=True)
class FetchExport:
    """Its rows in its format, made while they are read."""

    read: ReadRows
    formats: Formats

    def __call__(self, export: UsageExport) -> AsyncIterator[bytes]:
        pages = self.read.within(export.period, up_to=export.asked_at)
        return encoded(pages, self.formats[export.format], COLUMNS)
