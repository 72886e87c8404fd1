"""Old partitions of the ledger into files, and out of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from services.billing.actions.verify_ledger import ChainVerdict
from services.billing.domain.archive import (
    Archive,
    ArchiveState,
    Contents,
    Partition,
    Tally,
)
from services.billing.domain.errors import ArchiveUnreadable
from services.billing.domain.ledger_chain import (
    COVERED,
    ENTRIES,
    KEY_FIELD,
    Broken,
    Links,
    chain_name,
    genesis,
)
from services.billing.domain.ledger_ports import ArchiveFiles, ArchiveWriter
from services.billing.domain.ports import NewUnitOfWork
from shared.chain import Head
from shared.clock import Clock
from shared.values import dataclass

log = structlog.get_logger(__name__)

_RUNS = 10


def _nothing(_step: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class ArchiveLedger:
    """Write what is older than the retention into files, read each back, and only then drop it.

    Each step is noted once it is done, and begins anew where that was not noted; leaving the
    database is one transaction. Without a retention everything stays for ever.
    """

    unit_of_work: NewUnitOfWork
    files: ArchiveFiles | None
    clock: Clock
    retention: timedelta | None
    after_step: Callable[[str], None] = field(default=_nothing, repr=False)
    """Told of each step that was done; for tests that stop here."""

    async def __call__(self) -> list[str]:
        """Answers the partitions that have left the database."""
        if self.retention is None or self.files is None:
            return []
        limit = self.clock.now() - self.retention
        # Two at once would write over each other's files, of which one may be all that is left.
        with self.files.alone() as alone:
            if not alone:
                return []
            async with self.unit_of_work() as work:
                old = [one for one in await work.archive.partitions() if one.ends_at <= limit]
            return [one.name for one in old if await self._archive(one, self.files)]

    async def _archive(self, partition: Partition, files: ArchiveFiles) -> bool:
        async with self.unit_of_work() as work:
            hindrance = await work.archive.hindrance(partition)
            archive = await work.archive.get(partition.name)
        if hindrance is not None:
            log.info("ledger_partition_stays", partition=partition.name, reason=hindrance)
            return False
        is_verified = archive is not None and archive.state == "verified"
        contents = archive.contents if archive and archive.state != "exporting" else None
        if contents is None or files.digest(partition.name) != contents.sha256:
            contents, is_verified = await self._export(partition, files), False
        if not is_verified and not await self._verify(partition, contents, files):
            return False
        return await self._drop(partition, contents)

    async def _export(self, partition: Partition, files: ArchiveFiles) -> Contents:
        await self._note(partition, "exporting", None)
        writer = await asyncio.to_thread(files.begin, partition.name)
        tally = Tally()
        try:
            for chain in partition.chains:
                await self._write_chain(chain, writer, tally)
            sha256 = await asyncio.to_thread(writer.finish)
        finally:
            writer.close()
        contents = tally.of_file(sha256)
        files.describe(partition.name, contents)
        self.after_step("written")
        await self._note(partition, "exported", contents)
        return contents

    async def _write_chain(self, chain: int, writer: ArchiveWriter, tally: Tally) -> None:
        sequence = 0
        while True:
            async with self.unit_of_work() as work:
                page = await work.chain.after(chain, sequence, most=_RUNS)
                for links in page:
                    records = _records(links, await work.chain.records(links))
                    await asyncio.to_thread(writer.add, records)
                    tally.take(records)
                    sequence = links.head.sequence
            if len(page) < _RUNS:
                return

    async def _verify(self, partition: Partition, contents: Contents, files: ArchiveFiles) -> bool:
        found, problem = await asyncio.to_thread(read_back, partition.name, files)
        if problem is not None or found != contents:
            log.error("ledger_archive_is_wrong", partition=partition.name, reason=problem)
            await self._note(partition, "exporting", None)
            return False
        await self._note(partition, "verified", contents)
        return True

    async def _drop(self, partition: Partition, contents: Contents) -> bool:
        async with self.unit_of_work() as work:
            dropped = await work.archive.drop(partition, contents, self.clock.now())
            self.after_step("dropping")
        if not dropped:  # usage came late; it is part of the next try
            await self._note(partition, "exporting", None)
            return False
        log.info("ledger_partition_archived", partition=partition.name, entries=contents.entries)
        self.after_step("dropped")
        return True

    async def _note(
        self, partition: Partition, state: ArchiveState, contents: Contents | None
    ) -> None:
        async with self.unit_of_work() as work:
            await work.archive.note(partition, state, contents, self.clock.now())
        self.after_step(state)


@dataclass(frozen=True, slots=True)
class ArchiveVerdict:
    """Whether an archived partition's file is what was archived; `problem` is a sentence."""

    archive: Archive
    problem: str | None


@dataclass(frozen=True, slots=True)
class VerifyArchive:
    """Read archived files again and compare them with what was noted when they were made."""

    unit_of_work: NewUnitOfWork
    files: ArchiveFiles | None

    async def all(self) -> Sequence[Archive]:
        async with self.unit_of_work() as work:
            return await work.archive.all()

    async def __call__(
        self, partition: str | None = None, known: Mapping[int, Head] | None = None
    ) -> list[ArchiveVerdict]:
        """All of them, or one. `known` are heads from an earlier day, of those that they hold."""
        return [
            ArchiveVerdict(archive, await asyncio.to_thread(self._problem, archive, known or {}))
            for archive in await self.all()
            if archive.contents is not None and partition in (None, archive.partition.name)
        ]

    async def of_heads(self, known: Mapping[int, Head]) -> list[ChainVerdict]:
        """The chains of these heads, as far as they have left the ledger: each file is read, and
        compared with those of its own."""
        verdicts: list[ChainVerdict] = []
        for archive in await self.all():
            its = [chain for chain in sorted(known) if chain in archive.partition.chains]
            if archive.state == "dropped" and its:
                problem = await asyncio.to_thread(self._problem, archive, known)
                verdicts += [_chain_verdict(archive, chain, problem) for chain in its]
        return verdicts

    def _problem(self, archive: Archive, known: Mapping[int, Head]) -> str | None:
        if self.files is None:
            return "No archive directory is set."
        partition = archive.partition
        its = {chain: head for chain, head in known.items() if chain in partition.chains}
        found, problem = read_back(partition.name, self.files, its)
        if problem is None and found != archive.contents:
            return "It is not the file that was archived."
        return problem


def _chain_verdict(archive: Archive, chain: int, problem: str | None) -> ChainVerdict:
    heads = archive.contents.heads if archive.contents else {}
    end = heads.get(str(chain))
    head = Head.parse(end) if end else genesis(chain)
    what = f"In the file {archive.partition.name}: {problem}"
    return ChainVerdict(chain, head, Broken(chain, None, None, what) if problem else None)


def read_back(
    partition: str, files: ArchiveFiles, known: Mapping[int, Head] | None = None
) -> tuple[Contents | None, str | None]:
    """What a file holds, worked out from all of its records, and what is wrong with it."""
    tally = Tally(known or {})
    sha256 = files.digest(partition)
    if sha256 is None:
        return None, "The file is missing."
    try:
        for records in files.read(partition):
            tally.take(records)
    except ArchiveUnreadable as unreadable:
        return None, unreadable.message
    tally.finish()
    contents = tally.of_file(sha256)
    if tally.broken is not None:
        return contents, f"{chain_name(tally.broken.chain)}: {tally.broken.what}"
    if files.described(partition) != contents:
        return contents, "The description beside the file tells something else."
    return contents, None


def _records(links: Links, found: Mapping[UUID, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A run of links with what each covers: an entry's rating where that came with it, or alone."""
    records: list[Mapping[str, Any]] = []
    for place, (kind, id_) in enumerate(zip(links.kinds, links.ids, strict=True)):
        row = found[id_]
        fields = (*COVERED[kind], KEY_FIELD) if kind in ENTRIES else COVERED[kind]
        records.append(
            {
                "chain": links.chain,
                "link_sequence": links.first + place,
                "kind": kind,
                "link": links.link(place),
                **{name: row[name] for name, _ in fields},
            }
        )
    return records
