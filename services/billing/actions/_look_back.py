"""How far back a job looks that tells users of what they have used."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.billing.domain.ports import UnitOfWork

# Longer than a worker is away in ordinary days: what it was told of late is looked at all the same.
_LOOK_BACK = timedelta(minutes=15)


async def looks_since(work: UnitOfWork, now: datetime) -> datetime:
    """From when on what came in is looked at: a quarter of an hour, and as far as what got its link
    only then, which the sums had not before."""
    since = now - _LOOK_BACK
    linked_from = await work.chain.linked_from(since)
    return since if linked_from is None else min(since, linked_from)
