"""What exports need: the ledger's rows in order, formats to write them in, and a place to put
files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from services.billing.domain.correction import Correction
from services.billing.domain.period import Period
from services.billing.domain.usage_export import (
    Day,
    DayState,
    ExportId,
    FileFacts,
    FormatName,
    Rows,
    UsageExport,
)
from shared.ids import EventId, UserId


class UsageRows(Protocol):
    """The ledger as rows with the columns of `usage_export.COLUMNS`, in the order of their ids."""

    async def bounds(self, period: Period) -> tuple[UUID, UUID] | None:
        """The least and the greatest id of what happened in a period; None for nothing."""
        ...

    async def entries(
        self, first: UUID, end: UUID, *, within: Period | None, up_to: datetime | None, most: int
    ) -> Rows:
        """From the id `first` on, up to and without `end`, of what had come by `up_to`. `within`:
        only what happened in that period."""
        ...

    async def corrections_of(self, event_ids: Sequence[EventId]) -> Rows: ...

    async def corrections_on(
        self, day: Day, *, after: UUID, up_to: datetime | None, most: int
    ) -> Rows:
        """Those of a day's entries, by their own ids."""
        ...

    async def corrections_within(
        self, period: Period, *, after: UUID, up_to: datetime | None, most: int
    ) -> Rows:
        """Those of what happened in a period, by their own ids."""
        ...

    async def corrections_of_user(
        self, user_id: UserId, *, after: UUID | None, most: int
    ) -> Sequence[Correction]:
        """Of all a user's entries, of those in files too, by their own ids."""
        ...

    async def archived_within(self, period: Period) -> Sequence[str]:
        """The partitions that lie in files and hold something of a period."""
        ...

    async def archived_on(self, day: Day) -> Sequence[str]: ...

    async def archived_of(self, user_id: UserId, period: Period) -> int:
        """How many requests of a user's lie in files, of the hours that a period touches."""
        ...

    async def waits_for_links(self, day: Day) -> bool:
        """Whether something of a day is not in its chain yet."""
        ...


class UsageExports(Protocol):
    """What was asked for, and which days were exported where."""

    async def add(self, export: UsageExport) -> None: ...
    async def get(self, export_id: ExportId) -> UsageExport | None: ...

    async def newest(self, *, before: ExportId | None, most: int) -> Sequence[UsageExport]: ...

    async def days(self, target: str, *, until: Day) -> Sequence[DayState]:
        """Every day that has something in the ledger and, from the first one that was exported on,
        every day of the calendar; the oldest first."""
        ...

    async def claim(self, target: str, state: DayState, *, now: datetime, until: datetime) -> bool:
        """False while somebody else is at work on it."""
        ...

    async def keep_claim(self, target: str, day: Day, *, until: datetime) -> None: ...

    async def finish(
        self, target: str, state: DayState, *, complete: bool, rows: int, at: datetime
    ) -> None:
        """It lies there as the next revision; nobody is at work on it any more."""
        ...

    async def checked(self, target: str, day: Day, *, at: datetime) -> None:
        """It was looked at, and is as before."""
        ...

    async def failed(self, target: str, day: Day, *, at: datetime) -> None: ...

    async def last_day(self, target: str) -> tuple[Day | None, int]:
        """The newest day that lies there, and how many could not be written the last time."""
        ...


class Encoder(Protocol):
    """Writes one file, piece by piece."""

    def rows(self, rows: Rows) -> bytes: ...

    def end(self) -> bytes: ...


class FileFormat(Protocol):
    """A format that rows can be written in."""

    name: FormatName
    media_type: str

    def begin(self, columns: Mapping[str, str]) -> Encoder: ...


class ExportWriter(Protocol):
    """A file that is being made; it is put in its place once it is whole."""

    def add(self, rows: Rows) -> None: ...

    def finish(self) -> FileFacts: ...

    def publish(self) -> None:
        """Take the place of what was there. Raises ExportTargetUnavailable."""
        ...

    def close(self) -> None: ...


class ExportTarget(Protocol):
    """A directory or a bucket. Its name holds no secret."""

    name: str

    def begin(self, path: str, format_: FileFormat) -> ExportWriter: ...

    def put_json(self, path: str, document: Mapping[str, Any]) -> None:
        """Raises ExportTargetUnavailable."""
        ...


class ArchivedRows(Protocol):
    """Rows of the ledger that lie in the archive's files."""

    def read(self, partition: str) -> Iterator[Rows]:
        """Raises ArchiveUnreadable."""
        ...


class ExportQueue(Protocol):
    """The copy of the usage messages that a consumer outside may read."""

    async def keep(self) -> int:
        """Make it, or unbind it when it is not wanted; answers how many messages wait in it.
        Raises ExportQueueUnavailable."""
        ...
