"""Speech while its text is still being written: one hold that grows with the text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.voice.actions._check_voice import check_voice, check_voice_before
from services.voice.actions._live_line import LiveLine
from services.voice.actions.read_tier import ReadTier
from services.voice.actions.recall_settings import RecallSettings
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.withdraw_hold import WithdrawHold
from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.errors import SpeechEnded
from services.voice.domain.formats_in_plan import FormatsInPlan
from services.voice.domain.looks import Looks
from services.voice.domain.own_settings import filled
from services.voice.domain.piece import Piece
from services.voice.domain.ports import (
    Admission,
    LiveProvider,
    LiveVoice,
    Reservation,
    Speeches,
    SpeechProvider,
)
from services.voice.domain.running_speech import RunningSpeeches
from services.voice.domain.script import (
    Manner,
    MannerWish,
    SettingsWish,
    manner_for,
    speakable,
)
from services.voice.domain.speech import Hold, Outcome, Settlement, Used
from services.voice.domain.speech_model import speech_model
from shared.clock import Clock
from shared.errors import Unavailable
from shared.identity import OnBehalfOf
from shared.ids import uuid7
from shared.limit_state import LimitState
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier, by_current_tier
from shared.values import dataclass
from shared.vendors.failures import VendorFailed

_NOTHING = Piece(b"")
# The vendor hangs up on who is silent for three minutes.
_FRESH = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class LiveWish:
    """Whom a user wants to hear, and by which right."""

    wish: MannerWish
    tier: Tier
    by: OnBehalfOf
    strict_format: bool = False  # rather nothing than another format
    is_verbatim: bool = False  # the vendor is told the texts with their own white space
    session_id: UUID | None = None  # of chat, whose answer it speaks
    is_beside: bool = False  # of something that is asked for only once it is clear who speaks


@dataclass(frozen=True, slots=True)
class SpeakLive:
    """Prepares speeches that are told what to say while they speak.

    Nothing is asked of anybody before the first words: each speech is one request of the user's
    limits, each text is admitted before it is said, and what it comes to is one line in the ledger.
    """

    speeches: Speeches
    admission: Admission
    voices: SpeechProvider
    provider: LiveProvider
    settle: SettleSpeech
    running: RunningSpeeches
    catalogue: ModelCatalogue
    clock: Clock
    withdraw: WithdrawHold
    recall_settings: RecallSettings
    formats: FormatsInPlan
    looks: Looks
    lease: timedelta = timedelta(seconds=30)
    sandbox: bool = field(default=False, kw_only=True)

    async def __call__(self, wish: LiveWish) -> LiveSpeech:
        """Raises RealtimeNotInTier, VoiceNotFound, UnknownFormat, FormatNotLive, what of the wish
        is not in the tier that the user has now, SessionEnded, and what the vendor says of the
        voice."""
        own = await self.recall_settings(wish.wish.voice_id, wish.by.user_id)
        # A place in the limits, which would tell, is only taken for the first words.
        tier = await ReadTier(self.admission)(wish.by.user_id, wish.tier)
        return await self._prepared(replace(wish, tier=tier), own)

    async def _prepared(self, wish: LiveWish, own: SettingsWish) -> LiveSpeech:
        manner = manner_for(filled(wish.wish, own, wish.tier), wish.tier, self.catalogue)
        voices, voice_id = self.voices, manner.voice_id
        if wish.is_beside:
            await check_voice_before(voices, self.looks, voice_id, wish.tier, by=wish.by)
        else:
            await check_voice(voices, voice_id, wish.tier, by=wish.by)
        return LiveSpeech(self, wish, manner)


class LiveSpeech:
    """One speech: `say` its texts from one task and `read` its audio in another, then `conclude`
    it, whatever happened."""

    def __init__(self, studio: SpeakLive, wish: LiveWish, manner: Manner) -> None:
        self._studio = studio
        self._wish = wish
        self._tier = wish.tier
        self._line = LiveLine(
            studio.provider,
            studio.formats,
            manner,
            wish.tier,
            user_id=wish.by.user_id,
            is_strict=wish.strict_format,
        )
        self.hold = _empty_hold(studio, wish, self.manner)
        self.sign_in_id: UUID = wish.by.sign_in_id
        self.served_by: UUID | None = wish.by.organisation_id
        self.key = wish.by.key
        self.ended_as: Outcome | None = None
        # One for each text, with how many characters it has.
        self._reservations: list[tuple[Reservation, int]] = []
        self._voice: LiveVoice | None = None
        self._opened = asyncio.Event()
        self._telling = asyncio.Lock()
        # Whoever is within `say` or `read`: they are woken when the speech is ended.
        self._inside: set[asyncio.Task[Any]] = set()
        self._heard = False
        self._concluded = False

    @property
    def manner(self) -> Manner:
        return self._line.manner

    @property
    def wished_format(self) -> AudioFormat | None:
        """The one that the user's plan at the vendor does not make; None where it is given."""
        return self._line.wished_format

    @property
    def reservations(self) -> Sequence[Reservation]:
        """Its places in the limits, one for each text."""
        return [reservation for reservation, _ in self._reservations]

    @property
    def characters(self) -> int:
        """How many the vendor has been told to say so far."""
        return self.hold.characters

    @property
    def tier(self) -> str:
        """The tier that it counts by."""
        return self._tier.name

    @property
    def is_heard(self) -> bool:
        """Whether any audio has come."""
        return self._heard

    @property
    def used(self) -> Used | None:
        """What it is charged, as far as it has come; None for nothing."""
        return self._settlement(self.ended_as or Outcome.DONE).used

    @property
    def limits(self) -> Sequence[LimitState]:
        """How the user stands with what was admitted last."""
        return self._reservations[-1][0].limits

    def prepare(self) -> None:
        """Open the line to the vendor meanwhile: the first words need not wait for it. Nothing is
        asked over it, so it costs nothing; a failure is told when the first words are said.

        From now on it counts as running, since it runs on the user's key."""
        if not self._line.is_asked_for and self.ended_as is None:
            self.hold = replace(self.hold, created_at=self._studio.clock.now())
            self._studio.running.add(self)
            self._line.ask_for(self._wish.by)

    def renew(self, by: OnBehalfOf) -> None:
        """Its user has shown another token: it is spoken by that, unless its line is being opened
        already."""
        if not self._line.is_asked_for:
            by = replace(by, request_id=self.hold.request_id, key=self.key)
            self._wish = replace(self._wish, by=by)
            self.sign_in_id, self.served_by = by.sign_in_id, by.organisation_id

    @property
    def is_format_settled(self) -> bool:
        """False while it is being prepared in a format that the user's plan at the vendor may not
        make: until it is known which one it is spoken in, or that nothing is spoken."""
        return self._line.is_format_settled

    async def format_settled(self) -> None:
        """Once it is."""
        await self._line.format_settled()

    async def say(self, text: str) -> None:
        """The next words. When they are refused, what was said before still stands.

        Raises TextNotSpeakable, LimitReached, NotInTier, Unavailable, SpeechEnded, and what the
        vendor says.
        """
        words = speakable(text)
        # White space ends a text for the vendor, which counts it.
        text = text if self._wish.is_verbatim else f"{words} "
        async with self._wakeable() as awake, self._telling:
            if self.ended_as is not None:
                raise SpeechEnded
            if self._voice is None:
                await self._begin(text)
            else:
                await self._grow(text)
            assert self._voice is not None
            await self._voice.say(text)
        if not awake():
            raise SpeechEnded

    async def finish(self) -> None:
        """No more words: `read` ends once all of them were spoken."""
        async with self._wakeable(), self._telling:
            if self._voice is not None and self.ended_as is None:
                await self._voice.finish()
        self._opened.set()

    async def read(self) -> Piece:
        """The next audio; an empty piece at the end, or when the speech was ended early.

        Raises VendorFailed and whatever else the vendor says.
        """
        piece = _NOTHING
        if self._is_ended():
            return piece
        async with self._wakeable():
            await self._opened.wait()
            piece = _NOTHING if self._voice is None else await self._line.hear(self._voice)
        if piece.audio:
            if not self._heard:
                self._line.remember_format()
            self._heard = True
        elif self.hold.characters and not self._heard and not self._is_ended():
            # It was told what to say and says that it has said it all.
            raise VendorFailed(self.hold.provider)
        return piece

    def end(self, outcome: Outcome) -> None:
        """Stop the audio, for the given reason; the first reason counts."""
        if self.ended_as is None:
            self.ended_as = outcome
            for task in self._inside - {asyncio.current_task()}:
                task.cancel()

    async def conclude(self, outcome: Outcome) -> None:
        """Close it, once. What was said is charged where any of it was heard, since the vendor
        charges what it was told; where nothing was, all of it is given back."""
        if self._concluded:
            return
        self._concluded = True
        self.end(outcome)
        assert self.ended_as is not None
        # Words on their way are held, or withdrawn, before it is known what there is to settle.
        async with self._telling:
            pass
        if self.hold.characters:
            settlement = self._settlement(self.ended_as)
            self._studio.running.conclude(self, self._settled(settlement))
            if settlement.used is None:
                await asyncio.shield(self._refund())
        else:
            self._studio.running.drop(self)
        await self._line.close(self.hold.id)

    @asynccontextmanager
    async def _wakeable(self) -> AsyncIterator[Callable[[], bool]]:
        """Whoever is in here goes on after it when the speech is ended, and can ask whether it was
        woken; a cancellation of its own still goes through."""
        task = asyncio.current_task()
        assert task is not None
        is_woken = False
        self._inside.add(task)
        try:
            yield lambda: not is_woken
        except asyncio.CancelledError:
            if not self._is_ended() or task.uncancel():
                raise
            is_woken = True
        finally:
            self._inside.discard(task)

    def _is_stale(self) -> bool:
        """Whether the vendor may have hung up meanwhile, since nothing was said yet."""
        age = self._studio.clock.now() - self.hold.created_at
        return self._line.is_asked_for and age > _FRESH

    def _is_ended(self) -> bool:
        return self.ended_as is not None

    def _settlement(self, outcome: Outcome) -> Settlement:
        if not self._heard:
            failed = outcome in {Outcome.PROVIDER_FAILED, Outcome.DONE}
            return Settlement(Outcome.PROVIDER_FAILED if failed else Outcome.REFUSED, None)
        request_id = self._voice.request_id if self._voice is not None else None
        used = Used(self._cost(self.hold.characters), "counted")
        return Settlement(outcome, used, request_id, self._line.organisation_id)

    def _cost(self, characters: int) -> int:
        return speech_model(self.manner.model).cost(characters)

    async def _settled(self, settlement: Settlement) -> None:
        # The limits first: a database that is away may be waited for.
        if settlement.used is not None:
            said = 0
            for reservation, characters in self._reservations:
                before, said = said, said + characters
                await reservation.settle(self._cost(said) - self._cost(before))
        await self._studio.settle(self.hold, settlement)

    async def _begin(self, text: str) -> None:
        if self._is_stale():
            await self._line.close(self.hold.id)
        self._line.raise_failure()  # what is known not to work takes no place in the limits
        self._reservations.append((await self._admitted(len(text)), len(text)))
        now = self._studio.clock.now()
        hold = replace(
            self.hold,
            characters=len(text),
            format=self.manner.format.name,
            tier=self._tier.name,
            # A line that is open already runs on the key of that moment.
            created_at=self.hold.created_at if self._line.is_asked_for else now,
            lease_expires_at=now + self._studio.lease,
        )
        try:
            await self._studio.speeches.hold(hold)
        except BaseException as failure:
            self._studio.withdraw(hold, failure)
            await asyncio.shield(self._refund())
            raise
        self.hold = hold
        self._studio.running.add(self)
        if not self._line.is_asked_for:
            self._line.ask_for(self._wish.by)
        self._voice = await self._line.opened()
        if self.manner.format.name != self.hold.format:
            await self._tell_format(self.manner.format)
        self._opened.set()

    async def _tell_format(self, format_: AudioFormat) -> None:
        self.hold = replace(self.hold, format=format_.name)
        with suppress(Unavailable):  # no reason to fall silent: its settlement needs no format
            await self._studio.speeches.ask(self.hold.id, self.hold.characters, self.hold.format)

    async def _grow(self, text: str) -> None:
        reservation = await self._admitted(len(text))
        grown = replace(self.hold, characters=self.hold.characters + len(text))
        try:
            held = await self._studio.speeches.grow(grown.id, grown.characters)
        except BaseException:
            await asyncio.shield(reservation.refund())
            raise
        if not held:
            # The sweeper took this replica for dead, and has settled what was said until then.
            await asyncio.shield(reservation.refund())
            self.end(Outcome.STOPPED)
            raise SpeechEnded
        self._reservations.append((reservation, len(text)))
        self.hold = grown

    async def _admitted(self, characters: int) -> Reservation:
        return await by_current_tier(
            self._tier,
            lambda: self._studio.admission.tier_told_of(self.hold.user_id),
            lambda tier: self._admitted_by(tier, characters),
        )

    async def _admitted_by(self, tier: Tier, characters: int) -> Reservation:
        if tier != self._tier:
            self._tier = self._line.tier = tier
            manner_for(self._wish.wish, tier, self._studio.catalogue)
            await check_voice(self._studio.voices, self.manner.voice_id, tier, by=self._wish.by)
        return await self._admit(characters)

    async def _admit(self, characters: int) -> Reservation:
        admission = self._studio.admission
        admit = admission.admit_more if self._reservations else admission.admit
        now = self._studio.clock.now()
        # None is called as the speech: the sweeper would settle that text alone as all of them.
        return await admit(self.hold.user_id, self._tier, characters, now=now, reservation=uuid7())

    async def _refund(self) -> None:
        reservations, self._reservations = self._reservations, []
        for reservation, _ in reservations:
            await reservation.refund()


def _empty_hold(studio: SpeakLive, wish: LiveWish, manner: Manner) -> Hold:
    now = studio.clock.now()
    return Hold(
        user_id=wish.by.user_id,
        request_id=wish.by.request_id,
        tier=wish.tier.name,
        voice_id=manner.voice_id,
        model=manner.model,
        format=manner.format.name,
        characters=0,
        created_at=now,
        lease_expires_at=now + studio.lease,
        sandbox=studio.sandbox,
        session_id=wish.session_id,
    )
