"""What the keepers of the ledger need: its chains, corrections, sums and archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from services.billing.domain.archive import Archive, ArchiveState, Contents, Partition
from services.billing.domain.correction import Corrected, Correction
from services.billing.domain.ledger_chain import (
    ENTRIES,
    MARK_BYTES,
    Digests,
    Links,
    MarkedLinks,
    chain_of,
)
from services.billing.domain.rollup import Drift, RollupCheck
from shared.chain import Head
from shared.ids import EventId, UserId
from shared.values import dataclass

_LETTERS = set("".join(ENTRIES).encode())


class Queue(StrEnum):
    """Where batches wait for their links: entries that no hour has counted; what its hour counted
    as it came, such as corrections; and entries of the release before, which counts each as it
    comes, that ran on an organisation's key."""

    UNCOUNTED = "uncounted"
    COUNTED = "counted"
    COUNTED_OF_ORGANISATIONS = "counted of organisations"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Records of one batch that wait for their links: `entry`, `rating` or `correction`."""

    id: int
    kind: str
    ids: Sequence[UUID]
    queue: Queue


@dataclass(frozen=True, slots=True)
class MarkedBatch:
    """Uncounted entries of one batch and one day, in the order of their ids, and their marks."""

    id: int
    first: UUID
    last: UUID
    marks: bytes

    @property
    def chain(self) -> int:
        return chain_of(self.first)

    @property
    def queue(self) -> Queue:
        return Queue.UNCOUNTED

    @property
    def is_of_entries(self) -> bool:
        """Whether each mark has the letter of an entry, as all have that the intake made."""
        return set(self.marks[::MARK_BYTES]) <= _LETTERS


@dataclass(frozen=True, slots=True)
class ChainLag:
    """What waits to be taken up into the chains: until then it is unprotected."""

    waiting: int = 0
    since: datetime | None = None


class LedgerChain(Protocol):
    """The chains over the ledger, and the sums by hour and day of all that is linked."""

    async def take_turn(self, *, briefly: bool = False) -> bool:
        """False while somebody else links; otherwise nobody else does until the work ends.
        `briefly`: rather end with Unavailable than wait for who holds what is counted."""
        ...

    async def waiting(self, *, most: int) -> Sequence[Waiting | MarkedBatch]: ...

    async def count(self, uncounted: Sequence[Waiting | MarkedBatch]) -> None:
        """Count the entries of uncounted batches, at least one, in their hours and days."""
        ...

    async def take_up(self, kind: str, ids: Sequence[UUID], *, are_counted: bool) -> Digests:
        """Count records in their days, unless they are; answers their digests, in the order of
        their ids."""
        ...

    async def heads(self, chains: Sequence[int] | None = None) -> Mapping[int, Head]: ...
    async def add(self, links: Links) -> None: ...

    async def add_marked(self, links: MarkedLinks, batches: Sequence[MarkedBatch]) -> None:
        """Links over all that is in these batches, in this order."""
        ...

    async def taken_up(self, waiting: Sequence[Waiting | MarkedBatch]) -> None: ...
    async def chains(self) -> Sequence[int]: ...

    async def days_of_entries(self) -> Sequence[int]:
        """The chains that the entries which are there belong to."""
        ...

    async def after(self, chain: int, sequence: int, *, most: int) -> Sequence[Links]: ...
    async def records(self, links: Links) -> Mapping[UUID, Mapping[str, Any]]: ...

    async def uncovered(self, chain: int) -> UUID | None:
        """A record that has not the one link that is due, and does not wait for it."""
        ...

    async def lag(self) -> ChainLag: ...

    async def linked_from(self, since: datetime) -> datetime | None:
        """From when on what got its link since then had come in; None where nothing got one."""
        ...


class Corrections(Protocol):
    """Corrections of entries, each applied once."""

    async def corrected(self, event_id: EventId) -> Corrected | None:
        """The entry with all its corrections, locked until the work ends; None if not there."""
        ...

    async def all_corrected(self, event_ids: Sequence[EventId]) -> Sequence[Corrected]:
        """The same of those that are there, by their ids."""
        ...

    async def hold(self, event_ids: Sequence[EventId]) -> None:
        """For who corrects several entries one after the other: has these and their hours until the
        work ends, so that nobody who has some waits for the others."""
        ...

    async def known(self, ids: Sequence[EventId]) -> set[EventId]:
        """Which of these corrections are there."""
        ...

    async def add(self, correction: Correction) -> bool:
        """False when it was there already; otherwise the hours follow."""
        ...

    async def add_all(self, corrections: Sequence[Correction]) -> int:
        """The same of several, of an entry each; answers how many were not there."""
        ...

    async def of(self, event_id: EventId) -> Sequence[Correction]: ...


class Rollups(Protocol):
    """The sums by hour and day, compared with the ledger."""

    async def check(self, *, up_to: datetime, at: datetime) -> RollupCheck: ...
    async def last_check(self) -> RollupCheck | None: ...
    async def open_drifts(self, *, most: int) -> Sequence[Drift]: ...

    async def hold_drift(self, drift_id: int) -> Drift | None:
        """Locked until the work ends."""
        ...

    async def repair(self, drift: Drift, *, by: UserId, reason: str, at: datetime) -> None:
        """Put the sums right and say in the drift's record who did so and why."""
        ...


class LedgerArchive(Protocol):
    """Partitions on their way into files."""

    async def partitions(self) -> Sequence[Partition]: ...
    async def all(self) -> Sequence[Archive]: ...
    async def get(self, partition: str) -> Archive | None: ...
    async def hindrance(self, partition: Partition) -> str | None:
        """Why it may not leave yet; None when nothing stands in the way."""
        ...

    async def note(
        self, partition: Partition, state: ArchiveState, contents: Contents | None, at: datetime
    ) -> None: ...

    async def drop(self, partition: Partition, contents: Contents, at: datetime) -> bool:
        """Keep its sums and take it out of the ledger, all at once; False when it holds something
        else by now than what was archived."""
        ...


class ArchiveWriter(Protocol):
    """A file that is being written; it counts once it is finished."""

    def add(self, records: Sequence[Mapping[str, Any]]) -> None: ...

    def finish(self) -> str:
        """Make it last; answers its SHA-256."""
        ...

    def close(self) -> None:
        """Let go of it, finished or not."""
        ...


class ArchiveFiles(Protocol):
    """The files that archived partitions are kept in."""

    def alone(self) -> AbstractContextManager[bool]:
        """For the length of a block nobody else writes here; False where somebody does."""
        ...

    def begin(self, partition: str) -> ArchiveWriter: ...

    def describe(self, partition: str, contents: Contents) -> None:
        """Put what it holds beside it."""
        ...

    def described(self, partition: str) -> Contents | None: ...

    def read(self, partition: str) -> Iterator[Sequence[Mapping[str, Any]]]:
        """All records in their order, some at a time. Raises ArchiveUnreadable."""
        ...

    def digest(self, partition: str) -> str | None:
        """SHA-256 of the file; None when there is none."""
        ...

    def names(self) -> Sequence[str]: ...
