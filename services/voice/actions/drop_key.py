"""A key was revoked: end what still runs on it."""

from __future__ import annotations

import structlog

from services.voice.domain.running_speech import RunningSpeeches
from services.voice.domain.speech import Outcome
from shared.revocation import Revocation
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DropKey:
    """End this replica's speeches that run on a revoked key; answers how many."""

    running: RunningSpeeches

    async def __call__(self, revocation: Revocation) -> int:
        ended = self.running.end_on_key(revocation, Outcome.STOPPED)
        if ended:
            log.info("speeches_stopped", provider=revocation.provider, count=ended)
        return ended
