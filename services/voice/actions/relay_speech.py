"""Pass a speech on to its hearer, and settle it whatever happens."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from services.voice.actions.running_speech import (
    RunningSpeech,
    RunningSpeeches,
    Write,
    WritePiece,
)
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.spoken_before import Listener, SpokenBefore
from services.voice.domain.piece import Piece
from services.voice.domain.speech import Outcome, Settlement


@dataclass(frozen=True, slots=True)
class RelaySpeech:
    """Carry the audio to its end. The settlement starts when the audio ends and does not keep the
    hearer waiting."""

    settle: SettleSpeech
    running: RunningSpeeches
    before: SpokenBefore | None = None

    async def __call__(self, speech: RunningSpeech, write: Write) -> Outcome:
        """Answers how it ended; anything but `done` means that audio is missing."""

        def write_audio(piece: Piece) -> Awaitable[None]:
            return write(piece.audio)

        return await self.in_pieces(speech, write_audio)

    async def in_pieces(self, speech: RunningSpeech, write: WritePiece) -> Outcome:
        """As a call, with the times of the characters where the speech has them."""
        outcome = Outcome.STOPPED  # stands when we are cancelled: the process is going down
        listener = self._listener(speech)
        try:
            outcome = await speech.relay(write if listener is None else _heard_by(listener, write))
        finally:
            settlement = speech.settlement(outcome)
            self.running.conclude(speech, self._close(speech, settlement))
        if listener is not None and outcome is Outcome.DONE:
            listener.keep()
        return outcome

    def _listener(self, speech: RunningSpeech) -> Listener | None:
        if self.before is None or not speech.may_be_kept:
            return None
        return self.before.listen(speech.hold.user_id, speech.script)

    async def _close(self, speech: RunningSpeech, settlement: Settlement) -> None:
        assert settlement.used is not None
        # The limits first: a database that is away may be waited for.
        await speech.reservation.settle(settlement.used.characters)
        await self.settle(speech.hold, settlement)


def _heard_by(listener: Listener, write: WritePiece) -> WritePiece:
    """Written as ever, and heard along."""

    def write_heard(piece: Piece) -> Awaitable[None]:
        listener.hear(piece.audio)
        return write(piece)

    return write_heard
