"""An utterance: a live speech with its text gathered into pieces, and its audio handed on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from services.voice.actions.speak_live import LiveSpeech
from services.voice.domain.errors import SpeechEnded, TooMuchText
from services.voice.domain.gathered_text import Gathering
from services.voice.domain.piece import Piece
from services.voice.domain.script import speakable
from services.voice.domain.speech import Outcome, Used
from shared.errors import ExpectedFailure
from shared.values import dataclass
from shared.vendors.failures import VendorFailed

LONGEST_UTTERANCE = 40_000


@dataclass(frozen=True, slots=True)
class Ending:
    """How an utterance ended; `used` is None when nothing is charged."""

    outcome: Outcome
    characters: int
    used: Used | None
    failure: ExpectedFailure | None = None


class Hearer(Protocol):
    """Who listens to an utterance."""

    async def hear(self, piece: Piece) -> None:
        """Returns when the next piece may come. Raises OSError when nobody hears any more."""
        ...

    def admitted(self) -> None:
        """A piece of the text has its place in the limits, and is said."""
        ...

    def refused(self, failure: ExpectedFailure) -> None:
        """The rest of the text can't be said; what was said before is still spoken."""
        ...

    def over(self, ending: Ending) -> None:
        """The last that is heard of it."""
        ...


class LiveUtterance:
    """Takes text at any time, also before it is its turn to be spoken, which a call does."""

    def __init__(self, speech: LiveSpeech, text: Gathering) -> None:
        self.speech = speech
        self._text = text
        self._given = 0
        self._is_complete = False
        self._wake = asyncio.Event()
        self._failure: ExpectedFailure | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all of its text is here."""
        return self._is_complete

    @property
    def takes_text(self) -> bool:
        """Whether more may be added."""
        return not self._is_complete and self.speech.ended_as is None

    @property
    def may_be_over(self) -> bool:
        """Whether its text, as far as it is not said, may be all of a sentence."""
        return self._text.may_be_over

    def add(self, text: str) -> None:
        """More text. Raises TextNotSpeakable, TooMuchText, SpeechEnded."""
        if not self.takes_text:
            raise SpeechEnded
        if text.strip():
            speakable(text)
        if self._given + len(text) > LONGEST_UTTERANCE:
            raise TooMuchText(LONGEST_UTTERANCE)
        self._given += len(text)
        self._text.add(text.replace("\r\n", "\n"))
        self._wake.set()

    def flush(self) -> None:
        """Say what is there, without waiting for a better place to pause. What comes after it may
        wait for one, also where nothing can be said yet."""
        self._text.flush()
        self._wake.set()

    def complete(self) -> None:
        """No more text."""
        self._is_complete = True
        self._wake.set()

    def stop(self, outcome: Outcome) -> None:
        """No more audio."""
        self.speech.end(outcome)
        self._wake.set()

    async def __call__(self, hearer: Hearer) -> None:
        """Speak it, from its first words to its settlement."""
        outcome = Outcome.STOPPED
        telling = asyncio.create_task(self._tell(hearer))
        try:
            outcome = await self._hear(hearer)
        finally:
            self.speech.end(outcome)
            telling.cancel()
            try:
                await asyncio.wait({telling})
                self._raise_bug_of(telling)
                hearer.over(self._ending())
            finally:
                await asyncio.shield(self.speech.conclude(outcome))

    async def _hear(self, hearer: Hearer) -> Outcome:
        try:
            while (piece := await self.speech.read()).audio:
                await hearer.hear(piece)
        except ExpectedFailure as failure:
            self._failure = failure
            return self._outcome_of(failure)
        except OSError:
            return Outcome.CLIENT_GONE
        return Outcome.DONE

    async def _tell(self, hearer: Hearer) -> None:
        try:
            while (piece := await self._next()) is not None:
                if not await self._told(piece, hearer):
                    break
            await self.speech.finish()
        except SpeechEnded:
            return
        except ExpectedFailure as failure:
            self._failure = failure
            self.speech.end(self._outcome_of(failure))
        except Exception:
            # A bug of ours must not leave the hearer waiting for words that nobody says.
            self.speech.end(Outcome.STOPPED)
            raise

    async def _next(self) -> str | None:
        while self.speech.ended_as is None:
            piece = self._text.take(everything=self._is_complete)
            if piece is not None:
                return piece
            if self._is_complete:
                return None
            self._wake.clear()
            await self._wake.wait()
        raise SpeechEnded

    async def _told(self, piece: str, hearer: Hearer) -> bool:
        """Whether more may be said."""
        before = self.speech.characters
        try:
            await self.speech.say(piece)
        except SpeechEnded:
            raise
        except ExpectedFailure as failure:
            if not before or self.speech.characters > before:
                # Nothing was said yet; or the vendor was told, and what it says is the end.
                raise
            self._is_complete = True
            hearer.refused(failure)
            return False
        hearer.admitted()
        return True

    def _outcome_of(self, failure: ExpectedFailure) -> Outcome:
        failed = isinstance(failure, VendorFailed) or self.speech.is_heard
        return Outcome.PROVIDER_FAILED if failed else Outcome.REFUSED

    def _ending(self) -> Ending:
        outcome = self.speech.ended_as
        assert outcome is not None
        return Ending(outcome, self.speech.characters, self.speech.used, self._failure)

    def _raise_bug_of(self, telling: asyncio.Task[None]) -> None:
        with suppress(asyncio.CancelledError):
            telling.result()
