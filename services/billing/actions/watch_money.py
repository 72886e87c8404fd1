"""Tell what waits between us and others: usage on its way, webhooks, invoices, payments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from services.billing.domain.completeness import Gap, Progress, Stream, newest_numberings
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.webhook_ports import WebhookBacklog
from shared.clock import Clock
from shared.events.usage import UsageRecorded
from shared.tiers import TIERS
from shared.values import dataclass

_GIVEN_UP_LATELY = timedelta(hours=24)
_MOST_PAST_DUE = 1_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """How much of what producers sent is here, and since when that may not be all."""

    progress: Sequence[Progress]
    gaps: Sequence[Gap]
    at: datetime

    @property
    def received(self) -> Mapping[tuple[str, str], int]:
        """Events that have come, by producer and stream; dead ones came, too."""
        return {
            (p.stream.producer, p.stream.name): _count(p) for p in newest_numberings(self.progress)
        }

    @property
    def lag(self) -> Mapping[str, timedelta]:
        """By tier: how long ago the moment is up to which all of its usage is known to be here."""
        sure_until: dict[str, datetime] = dict.fromkeys(TIERS, self.at)
        for stream, moment in self._moments():
            tier = _tier_of(stream)
            if tier in sure_until:
                sure_until[tier] = min(sure_until[tier], moment)
        return {tier: self.at - moment for tier, moment in sure_until.items()}

    @property
    def oldest_gap(self) -> Mapping[str, timedelta]:
        """How long each producer's oldest gap has been open."""
        ages: dict[str, timedelta] = {one.stream.producer: timedelta(0) for one in self.progress}
        for gap in self.gaps:
            name = gap.stream.producer
            ages[name] = max(ages.get(name, timedelta(0)), self.at - gap.seen_at)
        return ages

    def _moments(self) -> Iterator[tuple[Stream, datetime]]:
        """When each stream's end was told last, and when each gap was seen."""
        for progress in newest_numberings(self.progress):
            # Who stands outside the suite tells no ends: nothing is known of what is missing.
            if progress.last_manifest_at is not None:
                yield progress.stream, progress.last_manifest_at
        for gap in self.gaps:
            yield gap.stream, gap.seen_at


@dataclass(frozen=True, slots=True)
class Waiting:
    """What others have not got, or not given. `archive_overdue`: for how long something should have
    left the ledger for a file; nothing where nothing leaves."""

    webhooks: WebhookBacklog
    unfinished_run_since: datetime | None
    past_due: int  # subscriptions; a thousand at most
    archive_overdue: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class WatchArrivals:
    """Often, and cheap: scaling looks at it."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> Arrived:
        async with self.unit_of_work() as work:
            return Arrived(
                await work.completeness.progress(),
                await work.completeness.known_gaps(),
                self.clock.now(),
            )


@dataclass(frozen=True, slots=True)
class WatchWaiting:
    """What an operator has to know of before customers tell. `retention`: for how long entries stay
    in the ledger; None: for ever."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    retention: timedelta | None = None

    async def __call__(self) -> Waiting:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            run = await work.invoice_runs.unfinished()
            past_due = await work.subscriptions.past_due(after=None, most=_MOST_PAST_DUE)
            return Waiting(
                await work.webhook_outbox.backlog(now, since=now - _GIVEN_UP_LATELY),
                run.begun_at if run else None,
                len(past_due),
                await self._archive_overdue(work, now),
            )

    async def _archive_overdue(self, work: UnitOfWork, now: datetime) -> timedelta:
        if self.retention is None:
            return timedelta(0)
        ends = [one.ends_at for one in await work.archive.partitions()]
        return max(timedelta(0), now - self.retention - min(ends, default=now))


def _count(progress: Progress) -> int:
    end = max(progress.announced, progress.highest_received)
    return end - progress.missing_count


def _tier_of(stream: Stream) -> str:
    return stream.name.removeprefix(f"{UsageRecorded.type}.")
