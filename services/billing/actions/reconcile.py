"""Is the ledger complete?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.billing.domain.completeness import Gap, Progress
from services.billing.domain.ledger_ports import ChainLag
from services.billing.domain.manifest import SILENT_AFTER, HourManifest, ProducerHours
from services.billing.domain.outside_usage import HeldCount
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import Model
from services.billing.domain.rollup import Drift, RollupCheck
from shared.clock import Clock
from shared.values import dataclass

_HOURS_SHOWN = timedelta(days=35)
_MOST_MISMATCHED = 100
_MOST_DRIFTS = 100
_NO_LAG = ChainLag()


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the billing team looks at before it trusts a number."""

    progress: Sequence[Progress]
    gaps: Sequence[Gap]
    unpriced: Sequence[tuple[Model, int]]
    stray_rows: int
    dead_events: int
    hours: Sequence[ProducerHours] = ()
    mismatched: Sequence[HourManifest] = ()  # the first ones
    held: Sequence[HeldCount] = ()
    at: datetime | None = None
    chain: ChainLag = _NO_LAG
    check: RollupCheck | None = None
    drifts: Sequence[Drift] = ()  # the first ones that nobody has repaired

    @property
    def last_heard(self) -> dict[str, datetime]:
        """When each producer said something last, be it that there was nothing."""
        heard: dict[str, datetime] = {}
        for one in self.progress:
            moments = [m for m in (one.last_seen_at, one.last_manifest_at) if m is not None]
            if moments:
                name = one.stream.producer
                heard[name] = max([*moments, *([heard[name]] if name in heard else [])])
        return heard

    @property
    def silent(self) -> list[str]:
        """Producers that have said nothing for so long that they must be broken."""
        if self.at is None:
            return []
        return sorted(n for n, seen in self.last_heard.items() if self.at - seen > SILENT_AFTER)


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compare what producers sent with what was recorded, and count what waits for somebody."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> Reconciliation:
        now = self.clock.now()
        lately = Period(now - _HOURS_SHOWN, now)
        async with self.unit_of_work() as work:
            return Reconciliation(
                progress=await work.completeness.progress(),
                gaps=await work.completeness.known_gaps(),
                unpriced=await work.unpriced.models(of_sandbox=False),
                stray_rows=await work.upkeep.stray_rows(),
                dead_events=await work.upkeep.dead_events(),
                hours=await work.manifests.by_producer(lately),
                mismatched=await work.manifests.mismatched(lately, most=_MOST_MISMATCHED),
                held=await work.outside.held(),
                at=now,
                chain=await work.chain.lag(),
                check=await work.rollups.last_check(),
                drifts=await work.rollups.open_drifts(most=_MOST_DRIFTS),
            )
