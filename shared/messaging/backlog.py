"""A service's look at its own outbox: usage that can't be told must not grow without bound."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import structlog

from shared.db.database import Database
from shared.events.usage import UsageRecorded
from shared.limits.shedding import Shedding
from shared.telemetry.metrics import REQUESTS_SHED, TIER_SHED
from shared.tiers import TIERS

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0

# A step along the index for each stream, however much waits in it. Those with a number were claimed
# before, so they are the oldest.
_OLDEST = """
select s.stream, extract(epoch from now() - next.created_at)::float as seconds
from unnest($1::text[]) as s (stream) cross join lateral (
    select o.created_at from outbox o where o.stream = s.stream
    order by o.sequence nulls last, o.created_at limit 1
) as next
"""


def shedding_of(service: str) -> Shedding:
    """One that counts what it refuses."""
    return Shedding(lambda tier: REQUESTS_SHED.labels(service, tier).inc())


class WatchBacklog:
    """Shed the unpaid tiers whose usage has waited in the outbox for longer than is `bearable`, and
    let them in again once it has not. A tier is judged by its own usage: trouble with the queue of
    one is no reason to refuse another. Paid tiers go on, and no event is ever dropped.

    It takes two looks in a row: the usage of an orphan that is settled late is old the moment it is
    written, and gone the next.
    """

    def __init__(
        self, service: str, database: Database, shedding: Shedding, bearable: timedelta
    ) -> None:
        self._database = database
        self._shedding = shedding
        self._bearable = bearable
        self._late: frozenset[str] = frozenset()
        self._streams = {
            f"{UsageRecorded.type}.{tier.name}": tier.name
            for tier in TIERS.values()
            if not tier.is_paid
        }
        self._shown = {tier: TIER_SHED.labels(service, tier) for tier in self._streams.values()}

    async def __call__(self) -> None:
        """One look. Raises Unavailable, and then nothing changes."""
        oldest = await self._oldest() if self._bearable else {}
        late = frozenset(tier for tier, age in oldest.items() if age > self._bearable)
        self._shed(late & self._late, oldest)
        self._late = late

    async def _oldest(self) -> Mapping[str, timedelta]:
        rows = await self._database.fetch(_OLDEST, list(self._streams))
        return {self._streams[row["stream"]]: timedelta(seconds=row["seconds"]) for row in rows}

    def _shed(self, tiers: frozenset[str], oldest: Mapping[str, timedelta]) -> None:
        before, self._shedding.tiers = self._shedding.tiers, tiers
        for tier in tiers - before:
            waits = round(oldest[tier].total_seconds())
            log.warning("tier_is_shed", tier=tier, oldest_seconds=waits)
        for tier in before - tiers:
            log.info("tier_is_let_in_again", tier=tier)
        for tier, shown in self._shown.items():
            shown.set(tier in tiers)
