"""A sign-in or a personal token has ended: end what still runs for it."""

from __future__ import annotations

from uuid import UUID

from services.voice.domain.open_sockets import OpenSockets
from services.voice.domain.running_speech import RunningSpeeches
from services.voice.domain.speech import Outcome
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DropSignIn:
    """End this replica's speeches that were asked for with it, and close the sockets that
    it opened; answers how many."""

    running: RunningSpeeches
    open_sockets: OpenSockets

    async def __call__(self, sign_in_id: UUID) -> int:
        speeches = self.running.end_of_sign_in(sign_in_id, Outcome.STOPPED)
        return speeches + self.open_sockets.end_of_sign_in(sign_in_id)
