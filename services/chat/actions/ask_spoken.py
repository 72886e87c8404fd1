"""Ask a question whose answer is to be spoken while it is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from services.chat.actions.ask_live import AskedLive, AskLive
from services.chat.domain.errors import SpeakNotOffered, SpeakVoiceMissing
from services.chat.domain.ports import NewUnitOfWork
from services.chat.domain.question import Question
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.speaking import SpeakWish, VoiceLine, VoiceLines
from services.chat.domain.spoken_turn import SpokenTurn, TellTrouble
from shared.errors import ExpectedFailure, Unavailable, UpstreamFailed
from shared.limits.pace import Gone
from shared.values import dataclass

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AskSpoken:
    """What the user may not hear is refused before the question is asked, and costs nothing. Where
    voice is in trouble the answer comes all the same, without audio."""

    ask_live: AskLive
    unit_of_work: NewUnitOfWork
    lines: VoiceLines | None
    tell_trouble: TellTrouble

    async def __call__(self, question: Question, gone: Gone | None = None) -> AskedLive:
        """Raises SpeakNotOffered, SpeakVoiceMissing, what voice refuses, and what AskLive does."""
        if self.lines is None:
            raise SpeakNotOffered
        assert question.speak is not None
        opening = _Opening(partial(self._line, self.lines, question, question.speak))
        try:
            asked = await self.ask_live(question, gone, opening)
        except BaseException:
            await _hang_up(opening.line)
            raise
        line = opening.line
        if asked.replayed:
            # What was spoken the first time is not kept, and not spoken again.
            await _hang_up(line)
            return asked
        assert isinstance(asked.turn, RunningTurn)
        assert line is not None
        spoken = SpokenTurn(asked.turn, self.tell_trouble)
        if isinstance(line, ExpectedFailure):
            spoken.be_silent(line)
        else:
            spoken.speak(line)
        return replace(asked, turn=spoken)

    async def _line(
        self, lines: VoiceLines, question: Question, wish: SpeakWish
    ) -> VoiceLine | ExpectedFailure:
        """The line, or why there is none for the moment."""
        manner = await self._manner(question, wish)
        try:
            return await lines.line(manner, by=question.by)
        except (Unavailable, UpstreamFailed) as failure:
            log.info("answer_not_spoken", reason=failure.code)
            return failure

    async def _manner(self, question: Question, wish: SpeakWish) -> Mapping[str, Any]:
        voice_id = wish.voice_id
        if voice_id is None:
            async with self.unit_of_work() as work:
                voice_id = (await work.preferences.of_user(question.user_id)).speak_voice_id
        if voice_id is None:
            raise SpeakVoiceMissing
        return {
            "voice_id": voice_id,
            "model": wish.model,
            "format": wish.format,
            "settings": dict(wish.settings),
            "session_id": str(question.session_id),
        }


class _Opening:
    """Opens the line once the question's turn has come: who waits for that has none."""

    def __init__(self, open_line: Callable[[], Awaitable[VoiceLine | ExpectedFailure]]) -> None:
        self.line: VoiceLine | ExpectedFailure | None = None
        self._open = open_line

    async def __call__(self) -> None:
        # There is one already where the question is tried by another tier.
        if self.line is None:
            self.line = await self._open()


async def _hang_up(line: VoiceLine | ExpectedFailure | None) -> None:
    if line is not None and not isinstance(line, ExpectedFailure):
        await line.close()
