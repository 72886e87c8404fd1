"""Ask producers for what did not come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from services.billing.domain.completeness import Gap, Progress, Stream, pieces
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.events.usage import UsageReplayRequested
from shared.tiers import tier_named
from shared.values import dataclass

MOST_GAPS = 1_000
MOST_REQUESTS = 20
_NOBODY = UUID(int=0)  # a request is about no user


@dataclass(frozen=True, slots=True)
class RequestMissingUsage:
    """Find the gaps in all streams and ask for those that have waited long enough.

    Bounded: so many gaps are looked after and so many requests go out each time; a gap that stays
    is asked for less and less often.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    patience: timedelta

    async def __call__(self) -> int:
        """Answers how many requests went out."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            known = {gap.key: gap for gap in await work.completeness.gaps()}
            found = self._found(await work.completeness.progress(), known, now)
            gaps = {gap.key: gap for gap in islice(found, MOST_GAPS)}
            due = sorted(
                (gap for gap in gaps.values() if gap.is_due(now)),
                key=lambda gap: gap.next_request_at,
            )[:MOST_REQUESTS]
            for gap in due:
                _ask(work, gap)
                gaps[gap.key] = gap.requested(now, self.patience)
            await work.completeness.keep_gaps(list(gaps.values()))
        return len(due)

    def _found(
        self, progress: Iterable[Progress], known: Mapping[tuple[Stream, int], Gap], now: datetime
    ) -> Iterator[Gap]:
        for one in progress:
            for first, last in pieces(one.missing()):
                gap = known.get((one.stream, first))
                if gap is None:
                    yield Gap.seen(one.stream, (first, last), now, self.patience)
                else:
                    yield gap.now_until(last)


def _ask(work: UnitOfWork, gap: Gap) -> None:
    request = UsageReplayRequested(
        producer=gap.stream.producer,
        stream=gap.stream.name,
        epoch=gap.stream.epoch,
        first_sequence=gap.first,
        last_sequence=gap.last,
    )
    # The stream's own tier, so that a flood in one tier does not delay another's repair.
    tier = tier_named(gap.stream.name.rpartition(".")[2])
    work.publish(request, subject=_NOBODY, tier=tier.name)
