"""A sign-in or a personal token has ended: end what still runs for it."""

from __future__ import annotations

from uuid import UUID

from services.chat.domain.devices import Devices
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Outcome
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DropSignIn:
    """End this replica's turns that were asked for with it, and close its sockets; answers how many
    it were."""

    running: RunningTurns
    devices: Devices

    async def __call__(self, sign_in_id: UUID) -> int:
        turns = self.running.end_of_sign_in(sign_in_id, Outcome.STOPPED)
        return turns + self.devices.end_of_sign_in(sign_in_id)
