"""Forget a user: end what they are listening to, and delete what is known of it."""

from __future__ import annotations

from typing import ClassVar

from services.voice.domain.ports import Revocations, UnitOfWork
from services.voice.domain.script import VENDOR
from shared.erasure import BATCH, Forget, Left
from shared.ids import UserId
from shared.revocation import Revocation
from shared.values import dataclass

_UTTERANCES = 50  # a megabyte each at most


@dataclass(frozen=True)
class ForgetUser(Forget[UnitOfWork]):
    """Delete the user's speeches, the audio that was kept for saying it again, their settings,
    and what is known of voices that they had made.

    At the vendor those voices were deleted before (`remove_every_voice`), while the key was there,
    which works only while its user is. What could not be deleted then stays in the user's own
    account there, or in the organisation's whose key made it: of that we go on knowing the voice,
    without its user, so that the organisation can have it deleted.

    A running one is ended, not deleted: what it has used is still to be told to billing. Its hold
    goes once that is done.
    """

    service: ClassVar[str] = "voice"

    revocations: Revocations

    async def erase(self, work: UnitOfWork, user_id: UserId) -> Left:
        """What is not running, in pieces."""
        if await work.kept_speeches.erase(user_id, most=_UTTERANCES) == _UTTERANCES:
            return Left.MORE
        erased = (
            await work.traces.erase(user_id, most=BATCH),
            await work.own_settings.erase(user_id, most=BATCH),
            await work.clones.erase(user_id, most=BATCH),
        )
        if BATCH in erased:
            return Left.MORE
        if not await work.traces.is_running(user_id):
            return Left.NOTHING
        await self.revocations.announce([Revocation(user_id, VENDOR, self.clock.now())])
        return Left.UNSETTLED
