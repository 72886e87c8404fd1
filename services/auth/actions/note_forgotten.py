"""Services say that they hold nothing of a user any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog

from services.auth.domain.ports import NewUnitOfWork
from shared.erasure import ErasureId
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a service said."""

    erasure_id: ErasureId
    service: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NoteForgotten:
    """Write it down; the last one completes the erasure. Hearing it twice changes nothing."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, said: Sequence[Forgotten]) -> None:
        # In one order, so that two batches never wait for each other in a circle.
        for one in sorted(said, key=lambda one: one.erasure_id):
            async with self.unit_of_work() as work:
                erasure = await work.erasures.hold(one.erasure_id)
                known = erasure.forgotten_by(one.service, one.at) if erasure else None
                if known is None or known == erasure:
                    continue
                await work.erasures.save(known)
            if known.completed_at is not None:
                log.info("user_forgotten_everywhere", erasure_id=str(known.id))
