"""Partitions of the ledger that have become old enough to lie in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from services.billing.domain.ledger_chain import (
    ENTRY,
    RATED_ENTRY,
    RATING,
    Broken,
    ChainWalk,
    chain_of,
)
from shared.chain import Head
from shared.values import dataclass

ArchiveState = Literal["exporting", "exported", "verified", "dropped"]
SUMMED = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
    "units",
    "cost_microusd",
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of the ledger by the time in its ids; `ends` is not in it."""

    name: str
    begins: UUID
    ends: UUID

    @property
    def ends_at(self) -> datetime:
        return datetime.fromtimestamp((self.ends.int >> 80) / 1000, UTC)

    @property
    def chains(self) -> range:
        return range(chain_of(self.begins), chain_of(self.ends))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds: so many entries and records, their sums, and the end of each chain."""

    entries: int
    records: int
    sums: Mapping[str, int]
    heads: Mapping[str, str]
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """Numbers as text: sums may be larger than what JSON's readers take."""
        return {**asdict(self), "sums": {name: str(total) for name, total in self.sums.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Contents:
        return cls(
            entries=document["entries"],
            records=document["records"],
            sums={name: int(total) for name, total in document["sums"].items()},
            heads=dict(document["heads"]),
            sha256=document["sha256"],
        )


@dataclass(frozen=True, slots=True)
class Archive:
    """How far a partition is on its way into a file."""

    partition: Partition
    state: ArchiveState
    contents: Contents | None
    changed_at: datetime


@dataclass
class Tally:
    """Goes along an archive's records in their order: counts, adds up, and walks the chains.
    `known` are heads that were noted earlier, each to be met again on the way."""

    known: Mapping[int, Head] = field(default_factory=dict)
    entries: int = 0
    records: int = 0
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMMED, 0))
    heads: dict[str, str] = field(default_factory=dict)
    broken: Broken | None = None
    _walk: ChainWalk | None = None

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """The next records."""
        for record in records:
            self.records += 1
            self._sum(record)
            self._follow(record)

    def finish(self) -> None:
        """There are no more records."""
        self._leave_chain()
        for chain in sorted(self.known):
            if str(chain) not in self.heads:
                self._walk = ChainWalk(chain, self.known[chain])
                self._leave_chain()

    def of_file(self, sha256: str) -> Contents:
        """What it comes to, for a file with this digest."""
        return Contents(self.entries, self.records, self.sums, self.heads, sha256)

    def _sum(self, record: Mapping[str, Any]) -> None:
        kind = record["kind"]
        if kind in (ENTRY, RATED_ENTRY):
            self.entries += 1
            for name in SUMMED[:-1]:
                self.sums[name] += record[name]
        if kind in (RATED_ENTRY, RATING):
            self.sums["cost_microusd"] += record["cost_microusd"]

    def _follow(self, record: Mapping[str, Any]) -> None:
        chain = record["chain"]
        if self._walk is None or self._walk.chain != chain:
            self._leave_chain()
            self._walk = ChainWalk(chain, self.known.get(chain))
        walk = self._walk
        walk.step(record["kind"], record["event_id"], record, record["link"])
        self.broken = self.broken or walk.broken
        self.heads[str(chain)] = str(walk.head)

    def _leave_chain(self) -> None:
        if self._walk is not None:
            self._walk.finish()
            self.broken = self.broken or self._walk.broken
