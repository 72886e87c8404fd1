"""billing's ledger from the console: whether it is whole, and what of it lies in files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date

from deploy.companion.console_settings import settings_of
from deploy.companion.errors import CompanionError
from services.billing.actions.archive_ledger import ArchiveVerdict
from services.billing.actions.verify_ledger import ChainVerdict
from services.billing.actions.verify_periods import PeriodVerdict
from services.billing.domain.archive import Archive
from services.billing.domain.closing import Month
from services.billing.domain.ledger_chain import CORRECTIONS, chain_name, chain_on
from services.billing.domain.ledger_ports import ChainLag
from services.billing.settings import Settings
from services.billing.wiring import wire
from shared.chain import Head
from shared.errors import ExpectedFailure

_PARTITION = re.compile(r"(?:ledger_entry_)?(\d{4})[-_](\d{2})(?:[-_](\d{2}))?")


async def verify(partition: str | None, heads: Sequence[str]) -> list[ChainVerdict]:
    """Walk the chains of a partition, or all; those that left for a file, where a head of theirs is
    given, in the file. Raises CompanionError when they can't be read, or a head is of another."""
    chains = chains_of(partition) if partition else None
    known = dict(_known(head) for head in heads)
    if chains is not None and not known.keys() <= set(chains):
        raise CompanionError(
            f"A head is of a day beside {partition}, and would not be compared.",
            "Give heads of the days that are verified.",
        )
    try:
        async with wire(billing_settings()) as wired:
            there = await wired.actions.verify_ledger(chains, known)
            left = await wired.actions.verify_archive.of_heads(known)
            return sorted([*there, *left], key=lambda verdict: verdict.chain)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def verify_months(partition: str | None) -> list[PeriodVerdict]:
    """Compare the closed month of this name, or all. Raises CompanionError."""
    month = month_of(partition) if partition else None
    if partition and month is None:
        return []
    try:
        async with wire(billing_settings()) as wired:
            return await wired.actions.verify_periods(month)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def status() -> tuple[Mapping[int, Head], ChainLag]:
    """The end of each chain, and what waits for its link. Raises CompanionError."""
    try:
        async with wire(billing_settings()) as wired:
            return await wired.actions.show_ledger()
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def archives() -> Sequence[Archive]:
    """All partitions on their way into files, or there. Raises CompanionError."""
    try:
        async with wire(billing_settings()) as wired:
            return await wired.actions.verify_archive.all()
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def verify_archives(partition: str | None, heads: Sequence[str] = ()) -> list[ArchiveVerdict]:
    """Read the files of a day or a month again, or all. Raises CompanionError, also where none is
    of that name, or of a head: nothing would be verified."""
    chains = chains_of(partition) if partition else None
    known = dict(_known(head) for head in heads)
    try:
        async with wire(billing_settings()) as wired:
            verify = wired.actions.verify_archive
            verdicts = [
                verdict
                for archive in await verify.all()
                if chains is None or _is_within(archive, chains)
                for verdict in await verify(archive.partition.name, known)
            ]
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure
    if partition and not verdicts:
        raise CompanionError(
            f"Nothing of {partition} lies in a file.", "See `companion ledger archive list`."
        )
    _ensure_compared(known, verdicts)
    return verdicts


def _ensure_compared(known: Mapping[int, Head], verdicts: Sequence[ArchiveVerdict]) -> None:
    """A head that is not looked at is no proof of anything."""
    read = [verdict.archive.partition.chains for verdict in verdicts]
    for chain in known:
        if not any(chain in chains for chains in read):
            raise CompanionError(
                f"{chain_name(chain)} is in no file that is read, and its head is not compared.",
                "Give heads of days that are, or see `companion ledger verify`.",
            )


def _is_within(archive: Archive, chains: range) -> bool:
    of_it = archive.partition.chains
    return chains.start <= of_it.start and of_it.stop <= chains.stop


def chains_of(partition: str) -> range:
    """The chains of a day or a month, or the one of the corrections. Raises CompanionError."""
    if partition == "corrections":
        return range(CORRECTIONS, CORRECTIONS + 1)
    match = _PARTITION.fullmatch(partition)
    try:
        if match is None:
            raise ValueError("neither a day nor a month")
        year, month = int(match[1]), int(match[2])
        if match[3]:
            first = chain_on(date(year, month, int(match[3])))
            return range(first, first + 1)
        begins, after = date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)
        return range(chain_on(begins), chain_on(after))
    except ValueError as error:
        raise CompanionError(
            f"{partition} is no partition.", "Give a day (2026-11-24), a month, or `corrections`."
        ) from error


def month_of(partition: str) -> Month | None:
    """The month, or None for a day and for the corrections. Raises CompanionError."""
    chains_of(partition)
    match = _PARTITION.fullmatch(partition)
    if match is None or match[3]:
        return None
    return Month(date(int(match[1]), int(match[2]), 1))


def _known(text: str) -> tuple[int, Head]:
    name, _, head = text.partition("=")
    chains = chains_of(name)
    try:
        if len(chains) != 1:
            raise ValueError("a head belongs to a day")
        return chains.start, Head.parse(head)
    except ValueError as error:
        raise CompanionError(
            f"{text} is no head: {error}.", "Give DAY=SEQUENCE:LINK, as `ledger status` shows it."
        ) from error


def billing_settings() -> Settings:
    """billing's settings, wherever this console runs."""
    return settings_of("billing", Settings, known_by={"IDENTITY_KEY_FILE"})
