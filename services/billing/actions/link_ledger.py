"""Take what is new in the ledger up into its chains."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import field
from itertools import product

import structlog

from services.billing.domain.ledger_chain import (
    CORRECTION,
    CORRECTIONS,
    Digests,
    Links,
    MarkedLinks,
    chain_name,
    continued,
    genesis,
    marked_on,
)
from services.billing.domain.ledger_ports import MarkedBatch, Queue, Waiting
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.errors import DependencyUnavailable
from shared.values import dataclass

log = structlog.get_logger(__name__)

# Batches of intake a transaction; each has 500 entries at most.
_BATCHES = 40
# For who waits for it: what is there in rest, and some milliseconds of what is there under load.
_FEW_BATCHES = 4
_MOST_ROUNDS = 500
# Readers of the sums hold the turn for some milliseconds at a time, and there may be many.
_TRIES = 20
_TRY_AGAIN_SECONDS = 0.05
# An entry before its rating and its corrections, in the days' sums as in the chain.
_KINDS = ("entry", "rating", "correction")


@dataclass(slots=True)
class Bite:
    """How many batches are taken at once: half as many after a statement that was not done in its
    time, and one more after each time that it was."""

    batches: int = _BATCHES

    def shrink(self) -> None:
        self.batches = max(1, self.batches // 2)

    def grow(self) -> None:
        self.batches = min(_BATCHES, self.batches + 1)


@dataclass(frozen=True, slots=True)
class LinkLedger:
    """Give every record that has none its link, and count it in its hour and day, in one
    transaction.

    Done apart from the intake, whose batches would otherwise wait for each other, and of many
    batches at once: what a user has in forty of them is one sum. Where a disk is too slow for so
    many, it gets on in smaller bites.
    """

    unit_of_work: NewUnitOfWork
    bite: Bite = field(default_factory=Bite, repr=False)

    async def __call__(self) -> int:
        """Answers how many records got their link."""
        linked, rounds, goes_on = 0, 0, True
        while goes_on and rounds < _MOST_ROUNDS:
            goes_on, records = await self._take_a_bite()
            linked += records
            rounds += 1
        return linked

    async def _take_a_bite(self) -> tuple[bool, int]:
        """Whether there may be more, and how many records got their link."""
        wanted = self.bite.batches
        try:
            batches, records = await self._next(wanted)
        except DependencyUnavailable as failure:
            # Nothing else was known to be wrong than that it took too long.
            took_too_long = isinstance(failure.__cause__, TimeoutError) and not failure.did_nothing
            if wanted == 1 or not took_too_long:
                raise
            self.bite.shrink()
            log.warning("linking_took_too_long", batches=wanted, next_batches=self.bite.batches)
            return True, 0
        if batches == wanted:
            self.bite.grow()
        return batches == wanted, records

    async def a_few(self) -> None:
        """What has waited for longest, unless somebody else is about it: for who is about to read
        the sums. Raises Unavailable also where somebody has some of the hours for long."""
        await self._link_some(_FEW_BATCHES, briefly=True)

    async def _next(self, most: int) -> tuple[int, int]:
        for _ in range(_TRIES):
            linked = await self._link_some(most)
            if linked is not None:
                return linked
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
        return 0, 0

    async def _link_some(self, most: int, *, briefly: bool = False) -> tuple[int, int] | None:
        """How many batches and records; None while somebody else links."""
        async with self.unit_of_work() as work:
            if not await work.chain.take_turn(briefly=briefly):
                return None
            waiting = await work.chain.waiting(most=most)
            if not waiting:
                return 0, 0
            await _count(work, waiting)
            # Marked ones are entries, and no rating may go before its entry.
            runs: list[Links | MarkedLinks] = [
                *await _link_marked(work, [one for one in waiting if isinstance(one, MarkedBatch)]),
                *await _link_others(work, [one for one in waiting if isinstance(one, Waiting)]),
            ]
            await work.chain.taken_up(waiting)
        # Logs leave this machine: what they say of a chain's end can't be cut off with it.
        for run in runs:
            log.info("ledger_head", chain=chain_name(run.chain), head=str(run.head))
        return len(waiting), sum(len(run.kinds) for run in runs)


async def _count(work: UnitOfWork, waiting: Sequence[Waiting | MarkedBatch]) -> None:
    # All by one statement: who locks hours in the order of their keys does so once.
    if uncounted := [one for one in waiting if one.queue is Queue.UNCOUNTED]:
        await work.chain.count(uncounted)


async def _link_marked(work: UnitOfWork, batches: Sequence[MarkedBatch]) -> list[MarkedLinks]:
    by_chain: dict[int, list[MarkedBatch]] = {}
    for batch in batches:
        by_chain.setdefault(batch.chain, []).append(batch)
    if not by_chain:
        return []
    heads = await work.chain.heads(sorted(by_chain))
    runs = []
    for chain in sorted(by_chain):
        head = heads.get(chain) or genesis(chain)
        run = marked_on(chain, head, (batch.marks for batch in by_chain[chain]))
        await work.chain.add_marked(run, by_chain[chain])
        runs.append(run)
    return runs


async def _link_others(work: UnitOfWork, waiting: Sequence[Waiting]) -> list[Links]:
    runs = await _links_for(work, await _take_up(work, waiting))
    for run in runs:
        await work.chain.add(run)
    return runs


async def _take_up(work: UnitOfWork, waiting: Sequence[Waiting]) -> list[Digests]:
    records: list[Digests] = []
    for kind, are_counted in product(_KINDS, (True, False)):
        ids = [
            id_
            for one in waiting
            if one.kind == kind and (one.queue is Queue.UNCOUNTED) is are_counted
            for id_ in one.ids
        ]
        if ids:
            records.append(await work.chain.take_up(kind, ids, are_counted=are_counted))
    return records


async def _links_for(work: UnitOfWork, records: Iterable[Digests]) -> list[Links]:
    by_chain: dict[int, list[Digests]] = {}
    for some in records:
        are_corrections = some.kinds.startswith(CORRECTION)
        for chain, its in ({CORRECTIONS: some} if are_corrections else some.by_chain()).items():
            by_chain.setdefault(chain, []).append(its)
    if not by_chain:
        return []
    heads = await work.chain.heads(sorted(by_chain))
    return [
        continued(chain, heads.get(chain) or genesis(chain), by_chain[chain])
        for chain in sorted(by_chain)
    ]
