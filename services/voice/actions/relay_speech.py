"""Pass a speech on to its hearer, and settle it whatever happens."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.actions.running_speech import RunningSpeech, RunningSpeeches, Write
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.speech import Outcome


@dataclass(frozen=True, slots=True)
class RelaySpeech:
    """Carry the audio to its end. The settlement starts when the audio ends and does not keep the
    hearer waiting."""

    settle: SettleSpeech
    running: RunningSpeeches

    async def __call__(self, speech: RunningSpeech, write: Write) -> Outcome:
        """Answers how it ended; anything but `done` means that audio is missing."""
        outcome = Outcome.STOPPED  # stands when we are cancelled: the process is going down
        try:
            outcome = await speech.relay(write)
        finally:
            settlement = speech.settlement(outcome)
            self.running.conclude(speech, self.settle(speech.hold, settlement))
        return outcome
