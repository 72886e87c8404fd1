"""Pass a speech on to its hearer, and settle it whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from services.voice.actions._spoken_before import Recorder, SpokenBefore
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.piece import Piece
from services.voice.domain.running_speech import (
    RunningSpeech,
    RunningSpeeches,
    Write,
    WritePiece,
)
from services.voice.domain.speech import Outcome, Settlement
from shared.values import dataclass

_KEPT_WITHIN_SECONDS = 3.0  # much less than what a replica that ends has for its settlements


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
        recorder = self._recorder(speech)
        # All of it is paid for, and nothing more is asked for.
        speech.outlives_hearer = recorder is not None and _is_keyed_and_of_one_part(speech)
        try:
            outcome = await speech.relay(
                write if recorder is None else _recorded_by(recorder, speech, write)
            )
        finally:
            kept = recorder.keep() if recorder is not None and speech.is_whole else None
            settlement = speech.settlement(outcome)
            self.running.conclude(speech, self._close(speech, settlement, kept))
        return outcome

    def _recorder(self, speech: RunningSpeech) -> Recorder | None:
        if self.before is None or not speech.may_be_kept:
            return None
        hold = speech.hold
        return self.before.record(hold.user_id, speech.script, began=hold.created_at)

    async def _close(
        self, speech: RunningSpeech, settlement: Settlement, kept: asyncio.Task[None] | None
    ) -> None:
        assert settlement.used is not None
        # The limits first: a database that is away may be waited for.
        await speech.reservation.settle(settlement.used.characters)
        if kept is not None and speech.hold.idempotency_key is not None:
            # Who asks again once it is over must find it. What was used is told all the same.
            await asyncio.wait({kept}, timeout=_KEPT_WITHIN_SECONDS)
        await self.settle(speech.hold, settlement)


def _is_keyed_and_of_one_part(speech: RunningSpeech) -> bool:
    return speech.hold.idempotency_key is not None and speech.hold.asked_characters is None


def _recorded_by(recorder: Recorder, speech: RunningSpeech, write: WritePiece) -> WritePiece:
    """Written as ever while somebody hears it, and heard along."""

    def write_recorded(piece: Piece) -> Awaitable[None]:
        recorder.hear(piece.audio)
        if not speech.is_unheard:
            return write(piece)
        if not recorder.is_whole:
            raise ConnectionResetError("nobody hears it, and it is too large to be kept")
        return _unheard()

    return write_recorded


async def _unheard() -> None:
    """Nobody to write to."""
