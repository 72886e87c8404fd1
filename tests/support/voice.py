"""Builders and in-memory ports for tests of voice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.voice.actions._spoken_before import SpokenBefore
from services.voice.actions.recall_settings import RecallSettings
from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.speak import Speak, Wish
from services.voice.actions.speak_live import LiveWish, SpeakLive
from services.voice.actions.withdraw_hold import WithdrawHold
from services.voice.domain.errors import VoiceNotFound
from services.voice.domain.formats_in_plan import FormatsInPlan
from services.voice.domain.kept_speech import Address, Recollection
from services.voice.domain.looks import Looks
from services.voice.domain.offline_engine import OfflineEngine
from services.voice.domain.piece import Alignment, Piece
from services.voice.domain.ports import Audio, EarlierSpeech, LiveVoice, SpeechAhead, TimedAudio
from services.voice.domain.running_speech import RunningSpeech, RunningSpeeches
from services.voice.domain.script import (
    Manner,
    MannerWish,
    Script,
    SettingsWish,
    SpeechOrder,
    script_for,
)
from services.voice.domain.speech import Hold, Settlement, SpeechId
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId, VoiceSettings
from shared.errors import DependencyUnavailable, LimitReached
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.model_catalogue import ModelCatalogue
from shared.revocation import Revocation
from shared.tiers import Tier, TierChanged, tier_named
from shared.vendors.failures import VendorFailed
from tests.support.clocks import NOON as NOON
from tests.support.clocks import StoppedClock as StoppedClock

RACHEL = "21m00Tcm4TlvDq8ikWAM"
PROFESSIONAL = "simulatedlibrary0001"
VOICES = (
    Voice(VoiceId(RACHEL), "Rachel", VoiceCategory.BASIC, {"accent": "american"}),
    Voice(VoiceId(PROFESSIONAL), "Library Voice", VoiceCategory.PREMIUM),
    Voice(VoiceId("myownclone01"), "Me", VoiceCategory.CUSTOM),
)


def a_user() -> UserId:
    return UserId(uuid4())


def on_behalf_of(user_id: UserId | None = None) -> OnBehalfOf:
    return OnBehalfOf(
        user_id=user_id or a_user(),
        request_id=f"req-{uuid4()}",
        access_token="a-token",
        sign_in_id=uuid4(),
    )


def an_order(text: str = "Hello there.", **changes: Any) -> SpeechOrder:
    return SpeechOrder(**{"text": text, "voice_id": RACHEL, **changes})


def a_wish(
    order: SpeechOrder | None = None,
    *,
    tier: str = "pro",
    by: OnBehalfOf | None = None,
    key: str | None = None,
) -> Wish:
    return Wish(order or an_order(), tier_named(tier), by or on_behalf_of(), key)


def a_live_wish(*, tier: str = "pro", by: OnBehalfOf | None = None, **changes: Any) -> LiveWish:
    wish = MannerWish(**{"voice_id": RACHEL, **changes})
    return LiveWish(wish, tier_named(tier), by or on_behalf_of())


def a_script(text: str = "Hello there.", *, tier: str = "pro", **wishes: Any) -> Script:
    settings = SettingsWish(**wishes.pop("settings", {}))
    order = an_order(text, settings=settings, **wishes)
    return script_for(order, tier_named(tier), ModelCatalogue())


def a_hold(**changes: Any) -> Hold:
    hold = Hold(
        user_id=a_user(),
        request_id="req-12345678",
        tier="pro",
        voice_id=RACHEL,
        model="eleven_multilingual_v2",
        format="mp3_44100_128",
        characters=12,
        created_at=NOON,
        lease_expires_at=NOON + timedelta(seconds=30),
    )
    return replace(hold, **changes)


@dataclass(slots=True)
class _Kept:
    hold: Hold
    settlement: Settlement | None = None


@dataclass(slots=True)
class FakeSpeeches:
    """Holds in memory. `outages` makes so many settlements fail before one is taken."""

    kept: dict[SpeechId, _Kept] = field(default_factory=dict)
    outbox: list[Fact[UsageRecorded]] = field(default_factory=list)
    leases: dict[SpeechId, datetime] = field(default_factory=dict)
    doubted: dict[SpeechId, datetime] = field(default_factory=dict)
    outages: int = 0
    unwritten: Exception | None = None  # what writing a hold raises
    before_hold: Callable[[], Awaitable[object]] | None = None
    hidden: int = 0  # so many looks at earlier speeches see nothing yet

    async def hold(self, hold: Hold) -> bool:
        if self.before_hold is not None:
            await self.before_hold()
        if self.unwritten is not None:
            raise self.unwritten
        if self._keyed(hold.user_id, hold.idempotency_key) is not None:
            return False
        self.kept[hold.id] = _Kept(hold)
        self.leases[hold.id] = hold.lease_expires_at
        return True

    async def ask(self, speech_id: SpeechId, characters: int, format_: str) -> bool:
        kept = self.kept[speech_id]
        if kept.settlement is None:
            kept.hold = replace(kept.hold, asked_characters=characters, format=format_)
        return kept.settlement is None

    async def grow(self, speech_id: SpeechId, characters: int) -> bool:
        kept = self.kept[speech_id]
        if kept.settlement is None:
            kept.hold = replace(kept.hold, characters=characters)
        return kept.settlement is None

    async def settle(
        self, speech_id: SpeechId, settlement: Settlement, usage: Fact[UsageRecorded] | None
    ) -> bool:
        if self.outages:
            self.outages -= 1
            raise DependencyUnavailable("database")
        kept = self.kept.get(speech_id)
        if kept is None or kept.settlement is not None:
            return False
        kept.settlement = settlement
        if settlement.used is None or not settlement.used.characters:
            kept.hold = replace(kept.hold, idempotency_key=None, request_hash=None)
        if usage is not None:
            self.outbox.append(usage)
        return True

    async def renew(self, ids: Collection[SpeechId], until: datetime) -> None:
        for id_ in ids:
            if self.kept[id_].settlement is None:
                self.leases[id_] = until
                self.doubted.pop(id_, None)

    async def orphans(self, now: datetime, *, doubted_by: datetime, most: int) -> Sequence[Hold]:
        expired = [
            kept.hold
            for id_, kept in self.kept.items()
            if kept.settlement is None and self.leases[id_] < now
        ]
        return [
            hold
            for hold in expired
            if self.leases[hold.id] <= self._doubted(hold.id, now) <= doubted_by
        ][:most]

    def _doubted(self, speech_id: SpeechId, now: datetime) -> datetime:
        doubted = self.doubted.get(speech_id)
        if doubted is None or doubted < self.leases[speech_id]:
            doubted = self.doubted[speech_id] = now
        return doubted

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierSpeech | None:
        if self.hidden:
            self.hidden -= 1
            return None
        kept = self._keyed(user_id, idempotency_key)
        if kept is None:
            return None
        assert kept.hold.request_hash is not None
        outcome = kept.settlement.outcome if kept.settlement else None
        return EarlierSpeech(kept.hold.id, kept.hold.request_hash, kept.hold.format, outcome)

    async def forget_keys(self, before: datetime, *, most: int) -> int:
        old = [
            kept
            for kept in self.kept.values()
            if kept.hold.idempotency_key is not None
            and kept.settlement is not None
            and kept.hold.created_at < before
        ][:most]
        for kept in old:
            kept.hold = replace(kept.hold, idempotency_key=None, request_hash=None)
        return len(old)

    def _keyed(self, user_id: UserId, key: str | None) -> _Kept | None:
        return next(
            (
                kept
                for kept in self.kept.values()
                if key is not None
                and kept.hold.idempotency_key == key
                and kept.hold.user_id == user_id
            ),
            None,
        )

    @property
    def settlements(self) -> list[Settlement | None]:
        return [kept.settlement for kept in self.kept.values()]


@dataclass(slots=True)
class FakeReservation:
    limits: Sequence[LimitState]
    refunds: int = 0
    settled: list[int] = field(default_factory=list)
    kept: int = 0

    async def keep(self) -> None:
        self.kept += 1

    async def refund(self) -> None:
        self.refunds += 1

    async def settle(self, characters: int) -> None:
        self.settled.append(characters)


@dataclass(slots=True)
class FakeAdmission:
    """Lets everybody in, unless told to refuse."""

    refuses: bool = False
    told: str | None = None
    given: list[FakeReservation] = field(default_factory=list)
    places: dict[UUID, FakeReservation] = field(default_factory=dict)
    characters: list[int] = field(default_factory=list)
    told_the_untold: int = 0
    further: int = 0  # how many of them were no request of their own
    again: int = 0  # and how many a repetition

    async def admit(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> FakeReservation:
        if self.told is not None and self.told != tier.told_as:
            raise TierChanged(self.told)
        if self.refuses:
            raise LimitReached("The limit of your tier is reached.", retry_after=timedelta(1))
        self.characters.append(characters)
        window = LimitState(
            "elevenlabs.requests_per_minute", 5, 1, timedelta(minutes=1), now + timedelta(minutes=1)
        )
        self.given.append(FakeReservation([window]))
        self.places[reservation] = self.given[-1]
        return self.given[-1]

    async def admit_more(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> FakeReservation:
        self.further += 1
        return await self.admit(user_id, tier, characters, now=now, reservation=reservation)

    async def admit_again(
        self, user_id: UserId, tier: Tier, *, now: datetime, reservation: UUID
    ) -> FakeReservation:
        self.again += 1
        return await self.admit(user_id, tier, 0, now=now, reservation=reservation)

    def place_of(self, hold: Hold) -> FakeReservation:
        return self.places.get(hold.id) or FakeReservation([])

    async def tell_the_untold(self) -> None:
        self.told_the_untold += 1

    async def states(self, user_id: UserId, tier: Tier, *, now: datetime) -> Sequence[LimitState]:
        return [state for given in self.given for state in given.limits]

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return self.told


class FakeAudio:
    """Pieces of audio, then the end; an exception among them is raised, an event awaited."""

    def __init__(
        self,
        *pieces: bytes | Exception | asyncio.Event,
        characters: int | None = None,
        request_id: str | None = "vendor-1",
    ) -> None:
        self._pieces = list(pieces)
        self.characters = characters
        self.request_id = request_id
        self.is_open = False

    async def read(self) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                return piece
            await piece.wait()
        return b""


class TimedFakeAudio:
    """Says of each piece that one character, named by its first byte, takes a second."""

    def __init__(self, audio: Audio) -> None:
        self._audio = audio
        self._seconds = 0.0
        self.characters, self.request_id = audio.characters, audio.request_id

    async def read(self) -> Piece:
        heard = await self._audio.read()
        if not heard:
            return Piece(b"")
        start, self._seconds = self._seconds, self._seconds + 1
        return Piece(heard, Alignment([chr(heard[0])], [start], [self._seconds]))


@dataclass(slots=True)
class FakeProvider:
    """Says what it was given, or fails to begin."""

    audio: FakeAudio = field(default_factory=lambda: FakeAudio(b"one", b"two"))
    failure: BaseException | None = None
    # What comes in turn, instead of the one audio; an exception among them is raised.
    audios: list[FakeAudio | BaseException] = field(default_factory=list)
    known: Sequence[Voice] = VOICES
    scripts: list[Script] = field(default_factory=list)
    looked_up: list[VoiceId] = field(default_factory=list)
    before: Callable[[], object] = lambda: None

    @asynccontextmanager
    async def speak(self, script: Script, *, by: OnBehalfOf) -> AsyncIterator[Audio]:
        self.scripts.append(script)
        self.before()
        if self.failure is not None:
            raise self.failure
        audio = self.audios.pop(0) if self.audios else self.audio
        if isinstance(audio, BaseException):
            raise audio
        audio.is_open = True
        try:
            yield audio
        finally:
            audio.is_open = False

    @asynccontextmanager
    async def speak_timed(self, script: Script, *, by: OnBehalfOf) -> AsyncIterator[TimedAudio]:
        async with self.speak(script, by=by) as audio:
            yield TimedFakeAudio(audio)

    def ahead(self, script: Script, *, by: OnBehalfOf) -> SpeechAhead | None:
        return None

    async def voices(self, *, by: OnBehalfOf) -> Sequence[Voice]:
        return self.known

    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice:
        self.looked_up.append(voice_id)
        for voice in self.known:
            if voice.id == voice_id:
                return voice
        raise VoiceNotFound(voice_id)

    async def settings_of(self, voice_id: VoiceId, *, by: OnBehalfOf) -> VoiceSettings:
        return VoiceSettings(stability=0.5)


def cut() -> VendorFailed:
    """The vendor's connection breaks."""
    return VendorFailed("elevenlabs")


class FakeLine:
    """Speaks each text as its bytes; ends when it was told to. Failures are raised in their turn:
    `unheard` when it is to speak, `unsaid` when it is told."""

    def __init__(self) -> None:
        self.request_id: str | None = "vendor-1"
        self.said: list[str] = []
        self.unsaid: Exception | None = None
        self.unheard: Exception | None = None
        self.is_open = False
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()

    async def say(self, text: str) -> None:
        if self.unsaid is not None:
            raise self.unsaid
        self.said.append(text)
        self._pieces.put_nowait(Piece(text.encode()))

    @property
    def waiting(self) -> int:
        """How many pieces nobody has read yet."""
        return self._pieces.qsize()

    def forget(self) -> None:
        """Everything that it was to say."""
        while not self._pieces.empty():
            self._pieces.get_nowait()

    async def finish(self) -> None:
        self._pieces.put_nowait(Piece(b""))

    async def read(self) -> Piece:
        if self.unheard is not None:
            raise self.unheard
        return await self._pieces.get()


@dataclass(slots=True)
class FakeLines:
    """Opens one line, or fails to."""

    line: FakeLine = field(default_factory=FakeLine)
    failure: Exception | None = None
    manners: list[Manner] = field(default_factory=list)

    @asynccontextmanager
    async def live(self, manner: Manner, *, by: OnBehalfOf) -> AsyncIterator[LiveVoice]:
        self.manners.append(manner)
        if self.failure is not None:
            raise self.failure
        line = self.line
        line.is_open = True
        try:
            yield line
        finally:
            line.is_open = False


@dataclass(slots=True)
class OwnSettingsOfOne:
    """What everybody wants of every voice; nothing is kept of what was said."""

    settings: SettingsWish = field(default_factory=SettingsWish)

    async def of(
        self,
        user_id: UserId,
        voice_id: VoiceId,
        address: Address | None = None,
        *,
        since: datetime | None = None,
    ) -> Recollection:
        return Recollection(self.settings)


class FakeRevocations:
    """Keeps what was announced."""

    def __init__(self) -> None:
        self.announced: list[Revocation] = []

    async def announce(self, revocations: Sequence[Revocation]) -> None:
        self.announced.extend(revocations)

    async def heard(self) -> AsyncIterator[Revocation]:
        for revocation in self.announced:
            yield revocation


@dataclass(slots=True)
class Studio:
    """The verbs around one speech, on in-memory ports."""

    provider: FakeProvider = field(default_factory=FakeProvider)
    speeches: FakeSpeeches = field(default_factory=FakeSpeeches)
    admission: FakeAdmission = field(default_factory=FakeAdmission)
    running: RunningSpeeches = field(default_factory=RunningSpeeches)
    clock: StoppedClock = field(default_factory=StoppedClock)
    lines: FakeLines = field(default_factory=FakeLines)
    own: OwnSettingsOfOne = field(default_factory=OwnSettingsOfOne)
    before: SpokenBefore | None = None
    offline: OfflineEngine | None = None
    formats: FormatsInPlan = field(init=False)
    looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        self.formats = FormatsInPlan(self.clock)
        self.looks = Looks(self.clock)

    @property
    def speak_live(self) -> SpeakLive:
        return SpeakLive(
            speeches=self.speeches,
            admission=self.admission,
            voices=self.provider,
            provider=self.lines,
            settle=SettleSpeech(self.speeches),
            running=self.running,
            catalogue=ModelCatalogue(),
            clock=self.clock,
            withdraw=WithdrawHold(SettleSpeech(self.speeches)),
            recall_settings=RecallSettings(self.own),
            formats=self.formats,
            looks=self.looks,
        )

    @property
    def speak(self) -> Speak:
        return Speak(
            speeches=self.speeches,
            admission=self.admission,
            provider=self.provider,
            settle=SettleSpeech(self.speeches),
            running=self.running,
            catalogue=ModelCatalogue(),
            clock=self.clock,
            formats=self.formats,
            withdraw=WithdrawHold(SettleSpeech(self.speeches)),
            before=self.before,
            offline=self.offline,
        )

    @property
    def relay(self) -> RelaySpeech:
        return RelaySpeech(SettleSpeech(self.speeches), self.running, self.before)

    async def settled(self) -> None:
        """Wait for the settlements under way."""
        await self.running.drained(5)
        if self.before is not None:
            await self.before.drained(5)

    async def hear(self, speech: RunningSpeech) -> tuple[bytes, str]:
        """Relay to the end; answers what was heard and the outcome."""
        heard = bytearray()

        async def write(piece: bytes) -> None:
            heard.extend(piece)

        outcome = await self.relay(speech, write)
        await self.settled()
        return bytes(heard), outcome.value
