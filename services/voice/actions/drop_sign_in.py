"""A sign-in or a personal token has ended: end what still runs for it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.voice.actions.running_speech import RunningSpeeches
from services.voice.domain.speech import Outcome


@dataclass(frozen=True, slots=True)
class DropSignIn:
    """End this replica's speeches that were asked for with it; answers how many."""

    running: RunningSpeeches

    async def __call__(self, sign_in_id: UUID) -> int:
        return self.running.end_of_sign_in(sign_in_id, Outcome.STOPPED)
