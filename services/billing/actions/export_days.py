"""Days of the ledger as files, at the place that the operator chose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from services.billing.actions.export_records import Formats, ReadRows
from services.billing.domain.closing import SETTLING_TIME
from services.billing.domain.errors import ArchiveUnreadable, ExportTargetUnavailable
from services.billing.domain.export_ports import ExportTarget, ExportWriter
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.usage_export import (
    Day,
    DayState,
    FileFacts,
    FormatName,
    Tally,
    manifest,
    silent_since,
)
from shared.clock import Clock
from shared.errors import ExpectedFailure
from shared.values import dataclass

log = structlog.get_logger(__name__)

# What changes a day comes in drops; each is in the next revision, an hour after the last.
BETWEEN_REVISIONS = timedelta(hours=1)
# Whoever was at work and says nothing any more is dead.
_CLAIM = timedelta(minutes=10)
_DAYS_A_RUN = 20


@dataclass(frozen=True, slots=True)
class ExportDays:
    """Write every day that is over and not there yet, and those that have changed since.

    The manifest is written last. A day that could not be written is tried again with the next run.
    """

    unit_of_work: NewUnitOfWork
    read: ReadRows
    target: ExportTarget | None
    formats: Formats
    wanted: Sequence[FormatName]
    clock: Clock

    async def __call__(self) -> int:
        """Answers how many days were written."""
        if self.target is None:
            return 0
        written = 0
        for state in await self._due(self.target):
            if not await self._claim(self.target, state):
                continue
            try:
                written += await self._bring_up_to_date(self.target, state)
            except ExportTargetUnavailable as failure:
                await self._note_failure(self.target, state.day, failure)
                return written  # the others would fare no better
            except ArchiveUnreadable as failure:
                # That day's own trouble: it must not keep the others away, now or next time.
                await self._checked(self.target, state.day)
                await self._note_failure(self.target, state.day, failure)
        return written

    async def _due(self, target: ExportTarget) -> list[DayState]:
        now = self.clock.now()
        yesterday = Day((now - SETTLING_TIME).date() - timedelta(days=1))
        async with self.unit_of_work() as work:
            states = await work.usage_exports.days(target.name, until=yesterday)
        due = [
            state
            for state in states
            if (state.has_changed or not state.complete)
            and (state.checked_at is None or now - state.checked_at >= BETWEEN_REVISIONS)
        ]
        # New days first: one that stays incomplete must not keep them away.
        due.sort(key=lambda state: (state.revision > 0, state.checked_at or now))
        return due[:_DAYS_A_RUN]

    async def _claim(self, target: ExportTarget, state: DayState) -> bool:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            return await work.usage_exports.claim(target.name, state, now=now, until=now + _CLAIM)

    async def _bring_up_to_date(self, target: ExportTarget, state: DayState) -> bool:
        missing = await self._missing(state.day)
        now = self.clock.now()
        if not state.has_changed and missing:
            await self._checked(target, state.day)
            return False
        tally, files = await self._write(target, state.day)
        document = manifest(state, tally, files, missing, written_at=now)
        path = f"{folder_of(state.day)}/_manifest.json"
        await asyncio.to_thread(target.put_json, path, document)
        async with self.unit_of_work() as work:
            await work.usage_exports.finish(
                target.name, state, complete=not missing, rows=document["rows"], at=now
            )
        log.info(
            "usage_day_exported",
            day=state.day.date.isoformat(),
            revision=document["revision"],
            rows=document["rows"],
            complete=document["complete"],
        )
        return True

    async def _write(self, target: ExportTarget, day: Day) -> tuple[Tally, list[FileFacts]]:
        tally = Tally()
        writers: list[ExportWriter] = []
        try:
            for name in self.wanted:
                path = f"{folder_of(day)}/part-000.{name}"
                writers.append(await asyncio.to_thread(target.begin, path, self.formats[name]))
            async for rows in self.read.of_day(day):
                tally.take(rows)
                for writer in writers:
                    await asyncio.to_thread(writer.add, rows)
                await self._keep_claim(target, day)
            files = [await asyncio.to_thread(writer.finish) for writer in writers]
            for writer in writers:
                await asyncio.to_thread(writer.publish)
            return tally, files
        finally:
            for writer in writers:
                writer.close()

    async def _missing(self, day: Day) -> list[str]:
        """Why the day is not complete; nothing when it is."""
        begins, ends = day.period.begins, day.period.ends
        async with self.unit_of_work() as work:
            missing = silent_since(await work.completeness.progress(), day)
            for hours in await work.manifests.by_producer(day.period):
                if hours.mismatched:
                    missing.append(f"hours_differ:{hours.producer}")
            if await work.outside.held_between(begins, ends):
                missing.append("held_usage")
            if await work.upkeep.dead_events():
                missing.append("dead_events")
            if await work.usage_rows.waits_for_links(day):
                missing.append("unlinked")
            if missing:
                return missing
            # Last, since it reads the whole day.
            off = await work.manifests.hours_off(day.period)
            return [f"hours_not_told:{producer}" for producer, _, _ in off]

    async def _keep_claim(self, target: ExportTarget, day: Day) -> None:
        async with self.unit_of_work() as work:
            until = self.clock.now() + _CLAIM
            await work.usage_exports.keep_claim(target.name, day, until=until)

    async def _checked(self, target: ExportTarget, day: Day) -> None:
        async with self.unit_of_work() as work:
            await work.usage_exports.checked(target.name, day, at=self.clock.now())

    async def _note_failure(self, target: ExportTarget, day: Day, failure: ExpectedFailure) -> None:
        log.error(
            "usage_export_failed", day=day.date.isoformat(), code=failure.code, **failure.facts
        )
        async with self.unit_of_work() as work:
            await work.usage_exports.failed(target.name, day, at=self.clock.now())


def folder_of(day: Day) -> str:
    """Hive's way of naming: readers take the day for a column."""
    return f"usage/day={day.date.isoformat()}"


@dataclass(frozen=True, slots=True)
class ShowExportedDays:
    """The newest day that lies at the target, and how many could not be written; None without a
    target."""

    unit_of_work: NewUnitOfWork
    target: ExportTarget | None

    async def __call__(self) -> tuple[Day | None, int] | None:
        if self.target is None:
            return None
        async with self.unit_of_work() as work:
            return await work.usage_exports.last_day(self.target.name)
