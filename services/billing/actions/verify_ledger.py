"""Find out whether the ledger still is what was written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from services.billing.domain.ledger_chain import CORRECTIONS, Broken, ChainWalk, chain_on
from services.billing.domain.ledger_ports import ChainLag
from services.billing.domain.ports import NewUnitOfWork
from shared.chain import Head
from shared.values import dataclass

_RUNS = 20  # runs of links a page; a run has some thousands of links at most


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """What a walk along one chain has found."""

    chain: int
    head: Head
    broken: Broken | None


@dataclass(frozen=True, slots=True)
class VerifyLedger:
    """Walk chains from their first link to their last, then look for what they leave out.

    Page by page, each in a short transaction: new links may be added meanwhile.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, chains: range | None = None, known: Mapping[int, Head] | None = None
    ) -> list[ChainVerdict]:
        """All chains, or those of some days. `known` are heads from an earlier day."""
        heads = dict(known or {})
        async with self.unit_of_work() as work:
            there = {*await work.chain.chains(), *await work.chain.days_of_entries(), CORRECTIONS}
            archived = [a.partition for a in await work.archive.all() if a.state == "dropped"]
        due = there | set(heads) if chains is None else (there | set(heads)) & set(chains)
        # Those have left as a whole: their files are verified by themselves.
        due -= {chain for partition in archived for chain in partition.chains}
        return [await self._verify(chain, heads.get(chain)) for chain in sorted(due)]

    async def lately(self, today: datetime) -> list[ChainVerdict]:
        """The chains of today and yesterday, and that of all corrections: what somebody who wants
        to change a bill would change."""
        day = chain_on(today.date())
        days = await self(range(day - 1, day + 1))
        return days + await self(range(CORRECTIONS, CORRECTIONS + 1))

    async def _verify(self, chain: int, known: Head | None) -> ChainVerdict:
        walk = ChainWalk(chain, known)
        while walk.broken is None:
            async with self.unit_of_work() as work:
                page = await work.chain.after(chain, walk.head.sequence, most=_RUNS)
                for links in page:
                    walk.follow(links, await work.chain.records(links))
            if len(page) < _RUNS:
                walk.finish()
                break
        if walk.broken is None:
            left_out = await self._left_out(chain)
            if left_out is not None:
                walk.broken = Broken(
                    chain,
                    None,
                    left_out,
                    f"Record {left_out} has not the one link that is due, "
                    "and does not wait for it: it was put in or rated behind our back.",
                )
        return ChainVerdict(chain, walk.head, walk.broken)

    async def _left_out(self, chain: int) -> UUID | None:
        async with self.unit_of_work() as work:
            return await work.chain.uncovered(chain)


@dataclass(frozen=True, slots=True)
class ShowLedger:
    """The end of each chain, and what waits for its link."""

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> tuple[Mapping[int, Head], ChainLag]:
        async with self.unit_of_work() as work:
            return await work.chain.heads(), await work.chain.lag()
