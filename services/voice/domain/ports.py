"""What voice's verbs need, in voice's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.voice.domain.clone import (
    Clone,
    CloneId,
    CloneOrder,
    MadeVoice,
    Recording,
    Sample,
    Upload,
)
from services.voice.domain.kept_speech import KeptSpeechesOfUser
from services.voice.domain.own_settings import OwnSettings, SettingsChange
from services.voice.domain.piece import Piece
from services.voice.domain.script import Manner, Script, SettingsWish
from services.voice.domain.speech import Hold, Settlement, SpeechId, SpeechRecord
from services.voice.domain.voice import Voice, VoiceId, VoiceSettings
from services.voice.domain.voice_search import VoicePage, VoiceQuery
from shared.erasure import ForgottenUsers
from shared.events import Event, Fact
from shared.events.usage import UsageRecorded
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId
from shared.limit_state import LimitState
from shared.revocation import Revocation
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class EarlierSpeech:
    """The speech that an idempotency key was first used for; no outcome while it runs."""

    id: SpeechId
    request_hash: bytes
    format: str  # that was given
    outcome: str | None


class Speeches(Protocol):
    """Holds and how they ended: each call is one statement in a transaction of its own."""

    async def hold(self, hold: Hold) -> bool:
        """Write the hold; False when the idempotency key is taken."""
        ...

    async def ask(self, speech_id: SpeechId, characters: int, format_: str) -> bool:
        """The vendor is about to be asked for so many characters, all in all, in that format; False
        when the speech is closed already."""
        ...

    async def grow(self, speech_id: SpeechId, characters: int) -> bool:
        """A live speech comes to so many characters now; False when it is closed already."""
        ...

    async def settle(
        self, speech_id: SpeechId, settlement: Settlement, usage: Fact[UsageRecorded] | None
    ) -> bool:
        """Close the hold and write its usage into the outbox; False when it was closed before.

        A speech that nothing is charged for gives its idempotency key free.
        """
        ...

    async def renew(self, ids: Collection[SpeechId], until: datetime) -> None: ...

    async def orphans(self, now: datetime, *, doubted_by: datetime, most: int) -> Sequence[Hold]:
        """Those whose lease had run out when somebody looked, at that time or before, and has not
        been renewed since; the others whose lease has run out are doubted from now on."""
        ...

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierSpeech | None: ...

    async def forget_keys(self, before: datetime, *, most: int) -> int:
        """Free some keys of speeches that began before and are over; answers how many."""
        ...


class Traces(Protocol):
    """What is held of a user: to show all of it, and to forget it."""

    async def page(
        self, user_id: UserId, *, after: SpeechId | None, most: int
    ) -> Sequence[SpeechRecord]:
        """The oldest first, from the one after `after` on."""
        ...

    async def erase(self, user_id: UserId, *, most: int) -> int:
        """Delete some speeches that are not running; answers how many."""
        ...

    async def is_running(self, user_id: UserId) -> bool: ...


class OwnSettingsOfVoices(Protocol):
    """How users want voices to speak."""

    async def of(self, user_id: UserId, voice_id: VoiceId) -> SettingsWish: ...

    async def change(
        self, user_id: UserId, voice_id: VoiceId, change: SettingsChange, at: datetime
    ) -> None: ...

    async def drop(self, user_id: UserId, voice_id: VoiceId) -> None: ...

    async def page(
        self, user_id: UserId, *, after: VoiceId | None, most: int
    ) -> Sequence[OwnSettings]:
        """By voice, from the one after `after` on."""
        ...

    async def erase(self, user_id: UserId, *, most: int) -> int: ...


class Clones(Protocol):
    """Voices that users had made."""

    async def begin(self, clone: Clone) -> bool:
        """Write it down; False when its idempotency key is taken."""
        ...

    async def finish(
        self, clone_id: CloneId, made: MadeVoice, organisation_id: UUID | None = None
    ) -> None:
        """It is made; with the key of the given organisation, or with its user's own."""
        ...

    async def earlier(self, user_id: UserId, idempotency_key: str) -> Clone | None: ...

    async def of(self, user_id: UserId) -> Sequence[Clone]:
        """All of them, the oldest first; vendors allow few."""
        ...

    async def of_organisation(self, organisation_id: UUID) -> Sequence[Clone]:
        """All that its key made, the oldest first."""
        ...

    async def hidden_from(
        self, user_id: UserId, voice_ids: Collection[VoiceId]
    ) -> Collection[VoiceId]:
        """Those of them that were made for somebody else, or are being removed."""
        ...

    async def begin_removal(self, user_id: UserId, voice_id: VoiceId, at: datetime) -> Clone | None:
        """From now on it is being removed. None when the user had no such voice made."""
        ...

    async def begin_removal_for(
        self, organisation_id: UUID, voice_id: VoiceId, at: datetime
    ) -> Clone | None:
        """The same of a voice that the organisation's key made, whosever it is."""
        ...

    async def forget(self, clone_id: CloneId) -> bool:
        """False when it is not there."""
        ...

    async def forget_lost(self, begun_before: datetime, *, most: int) -> int:
        """Those that have been in the making for too long; answers how many."""
        ...

    async def forget_keys(self, before: datetime, *, most: int) -> int:
        """Free the keys under which voices were asked for before, of those that are made;
        answers how many."""
        ...

    async def erase(self, user_id: UserId, *, most: int) -> int:
        """Forget some of them; of what an organisation's key made, whose it was. Answers how
        many."""
        ...


class KeyAdmins(Protocol):
    """auth, asked who decides about an organisation's keys."""

    async def may_manage_keys(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        """None for somebody who does not belong to it. Raises DependencyUnavailable."""
        ...


class UnitOfWork(Protocol):
    """One transaction."""

    @property
    def traces(self) -> Traces: ...
    @property
    def kept_speeches(self) -> KeptSpeechesOfUser: ...
    @property
    def own_settings(self) -> OwnSettingsOfVoices: ...
    @property
    def clones(self) -> Clones: ...
    @property
    def forgotten(self) -> ForgottenUsers: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...


NewUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


class Audio(Protocol):
    """What a vendor says, while it says it."""

    @property
    def characters(self) -> int | None:
        """How many it charges, if it told."""
        ...

    @property
    def request_id(self) -> str | None: ...

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises VendorFailed when it was cut."""
        ...


class TimedAudio(Protocol):
    """What a vendor says, and when in it each character is spoken."""

    @property
    def characters(self) -> int | None:
        """How many it charges, if it told."""
        ...

    @property
    def request_id(self) -> str | None: ...

    async def read(self) -> Piece:
        """The next piece, with times from the beginning of the audio; an empty one at the end.

        Raises VendorFailed when it was cut."""
        ...


class LiveVoice(Protocol):
    """A vendor that speaks while it is still being told what to say.

    Every call raises VendorRefused, VendorFailed and what the vendor says about the user's key.
    """

    @property
    def request_id(self) -> str | None: ...

    async def say(self, text: str) -> None:
        """The next words, to be spoken without waiting for more."""
        ...

    async def finish(self) -> None:
        """No more words: the audio ends once all of them are spoken."""
        ...

    async def read(self) -> Piece:
        """The next audio; an empty piece at the end."""
        ...


class LiveProvider(Protocol):
    """A vendor's wire for speech whose text is still being written."""

    def live(self, manner: Manner, *, by: OnBehalfOf) -> AbstractAsyncContextManager[LiveVoice]:
        """The open line; leaving it early tells the vendor. Raises what SpeechProvider raises."""
        ...


class SpeechAhead(Protocol):
    """A call to a vendor that has begun and that nobody can work on yet."""

    def speak(self) -> AbstractAsyncContextManager[Audio | TimedAudio]:
        """Go on with it."""
        ...

    def leave(self) -> None:
        """Break it off, unless somebody went on with it."""
        ...


class SpeechProvider(Protocol):
    """One vendor's wire. Translates, and nothing more.

    Every call raises VendorRefused, VendorFailed, VoiceNotFound, and what the egress says about
    the user's key.
    """

    def speak(self, script: Script, *, by: OnBehalfOf) -> AbstractAsyncContextManager[Audio]:
        """The audio, once the vendor has begun to answer; leaving it early tells the vendor."""
        ...

    def speak_timed(
        self, script: Script, *, by: OnBehalfOf
    ) -> AbstractAsyncContextManager[TimedAudio]:
        """As `speak`, with the times of its characters."""
        ...

    def ahead(self, script: Script, *, by: OnBehalfOf) -> SpeechAhead | None:
        """Begin what `speak` or `speak_timed` does, as far as may be before anything is written
        down of it: the key is asked for, and the vendor gets nothing to work on. None where that
        can't be."""
        ...

    async def voices(self, *, by: OnBehalfOf) -> Sequence[Voice]: ...

    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice: ...

    async def settings_of(self, voice_id: VoiceId, *, by: OnBehalfOf) -> VoiceSettings: ...


class VoiceLibrary(Protocol):
    """Where voices are found. Raises what SpeechProvider raises."""

    async def search(self, query: VoiceQuery, *, by: OnBehalfOf) -> VoicePage: ...


class VoiceMaker(Protocol):
    """A vendor that makes voices. Raises what SpeechProvider raises."""

    async def make(
        self, order: CloneOrder, samples: Sequence[Sample], *, by: OnBehalfOf
    ) -> MadeVoice:
        """Raises SamplesRejected and VoiceSlotsFull, too."""
        ...

    async def remove(self, voice_id: VoiceId, *, by: OnBehalfOf) -> bool:
        """Answers whether it was there. It may be elsewhere: in the account of a key that the user
        had before."""
        ...


class Examiner(Protocol):
    """Knows recordings from other files."""

    async def examine(self, position: int, upload: Upload) -> Recording:
        """Raises SampleRefused."""
        ...


class Reservation(Protocol):
    """An admitted request's place in its windows."""

    @property
    def limits(self) -> Sequence[LimitState]: ...

    async def keep(self) -> None:
        """It is still needed; to be said within each hour."""
        ...

    async def refund(self) -> None: ...

    async def settle(self, characters: int) -> None:
        """Count what was used in the place of what was reserved."""
        ...


class Admission(Protocol):
    """Lets a speech in, or raises LimitReached or Unavailable."""

    async def admit(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> Reservation:
        """Raises TierChanged when the user has another tier than the one given."""
        ...

    async def admit_more(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> Reservation:
        """Further characters of a speech that was let in: no further request. Raises the same."""
        ...

    async def admit_again(
        self, user_id: UserId, tier: Tier, *, now: datetime, reservation: UUID
    ) -> Reservation:
        """A repetition of a speech that was charged under the same key: takes nothing, and no full
        window refuses it. Raises TierChanged and Unavailable."""
        ...

    def place_of(self, hold: Hold) -> Reservation:
        """The place of a speech whose replica may be gone. The texts of a live one have others."""
        ...

    async def tell_the_untold(self) -> None:
        """What the counters could not be told while they were away."""
        ...

    async def states(self, user_id: UserId, tier: Tier, *, now: datetime) -> Sequence[LimitState]:
        """Every window of the user, without using any. Raises Unavailable."""
        ...

    async def tier_told_of(self, user_id: UserId) -> str | None:
        """The tier that the user was given lately; None when it is as their token says."""
        ...


class Revocations(Protocol):
    """Carries revocations to every replica. May lose one: then a running speech finishes."""

    async def announce(self, revocations: Sequence[Revocation]) -> None: ...

    def heard(self) -> AsyncIterator[Revocation]: ...
