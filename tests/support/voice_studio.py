"""In-memory ports for tests of voices: who keeps them, finds them, makes them."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.voice.actions.clone_voice import CloneVoice, CloneWish
from services.voice.actions.list_voices import ListVoices
from services.voice.actions.remove_voice import RemoveVoice
from services.voice.domain.clone import (
    Clone,
    CloneId,
    CloneOrder,
    CloneState,
    MadeVoice,
    Recording,
    Sample,
    Upload,
)
from services.voice.domain.errors import SampleRefused
from services.voice.domain.own_settings import OwnSettings, SettingsChange
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import Voice, VoiceId
from services.voice.domain.voice_search import VoicePage, VoiceQuery
from shared.errors import DependencyUnavailable
from shared.events import Event
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId
from shared.tiers import tier_named
from tests.support.recordings import wav
from tests.support.voice import NOON, VOICES, FakeAdmission, FakeProvider, StoppedClock

NEW_VOICE = VoiceId("newlymadevoice")


def an_upload(content: bytes = b"a recording", name: str = "take.wav") -> Upload:
    return Upload(name, io.BytesIO(content), len(content))


def a_clone_wish(
    *uploads: Upload, by: OnBehalfOf, tier: str = "pro", **changes: object
) -> CloneWish:
    key = changes.pop("key", None)
    order = CloneOrder(**{"name": "Me", "consent": True, "uploads": uploads, **changes})  # type: ignore[arg-type]
    return CloneWish(order, tier_named(tier), by, None if key is None else str(key))


class FakeOwnSettings:
    def __init__(self) -> None:
        self.kept: dict[tuple[UserId, VoiceId], SettingsWish] = {}

    async def of(self, user_id: UserId, voice_id: VoiceId) -> SettingsWish:
        return self.kept.get((user_id, voice_id), SettingsWish())

    async def change(
        self, user_id: UserId, voice_id: VoiceId, change: SettingsChange, at: datetime
    ) -> None:
        own = await self.of(user_id, voice_id)
        self.kept[user_id, voice_id] = replace(own, **change)  # type: ignore[arg-type]

    async def drop(self, user_id: UserId, voice_id: VoiceId) -> None:
        self.kept.pop((user_id, voice_id), None)

    async def page(
        self, user_id: UserId, *, after: VoiceId | None, most: int
    ) -> Sequence[OwnSettings]:
        return [OwnSettings(v, own, NOON) for (u, v), own in self.kept.items() if u == user_id]

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return 0


class FakeClones:
    """`outages` makes so many of the writes that follow the vendor's answer fail."""

    def __init__(self) -> None:
        self.kept: dict[CloneId, Clone] = {}
        self.outages = 0

    async def begin(self, clone: Clone) -> bool:
        if clone.idempotency_key and await self.earlier(clone.maker, clone.idempotency_key):
            return False
        self.kept[clone.id] = clone
        return True

    async def finish(
        self, clone_id: CloneId, made: MadeVoice, organisation_id: UUID | None = None
    ) -> None:
        if self.outages:
            self.outages -= 1
            raise DependencyUnavailable("database")
        self.kept[clone_id] = replace(
            self.kept[clone_id],
            voice_id=made.id,
            state=CloneState.READY,
            organisation_id=organisation_id,
        )

    async def earlier(self, user_id: UserId, idempotency_key: str) -> Clone | None:
        asked = (user_id, idempotency_key)
        found = (c for c in self.kept.values() if (c.user_id, c.idempotency_key) == asked)
        return next(found, None)

    async def of(self, user_id: UserId) -> Sequence[Clone]:
        return [clone for clone in self.kept.values() if clone.user_id == user_id]

    async def of_organisation(self, organisation_id: UUID) -> Sequence[Clone]:
        return [one for one in self.kept.values() if one.organisation_id == organisation_id]

    async def hidden_from(
        self, user_id: UserId, voice_ids: Collection[VoiceId]
    ) -> Collection[VoiceId]:
        return {
            clone.voice_id
            for clone in self.kept.values()
            if clone.voice_id in voice_ids
            and clone.voice_id is not None
            and (clone.user_id != user_id or clone.is_leaving)
        }

    async def begin_removal(self, user_id: UserId, voice_id: VoiceId, at: datetime) -> Clone | None:
        return self._begin_removal(await self.of(user_id), voice_id)

    async def begin_removal_for(
        self, organisation_id: UUID, voice_id: VoiceId, at: datetime
    ) -> Clone | None:
        return self._begin_removal(await self.of_organisation(organisation_id), voice_id)

    def _begin_removal(self, clones: Sequence[Clone], voice_id: VoiceId) -> Clone | None:
        for clone in clones:
            if clone.voice_id == voice_id:
                self.kept[clone.id] = replace(clone, state=CloneState.REMOVING)
                return self.kept[clone.id]
        return None

    async def forget(self, clone_id: CloneId) -> bool:
        return self.kept.pop(clone_id, None) is not None

    async def forget_keys(self, before: datetime, *, most: int) -> int:
        return 0

    async def forget_lost(self, begun_before: datetime, *, most: int) -> int:
        return 0

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return 0


@dataclass
class FakeStudio:
    """A vendor whose page holds what it is given, and that makes voices unless it fails."""

    page: VoicePage = field(default_factory=lambda: VoicePage(VOICES))
    failure: Exception | None = None
    made: list[tuple[CloneOrder, Sequence[Sample]]] = field(default_factory=list)
    removed: list[VoiceId] = field(default_factory=list)
    queries: list[VoiceQuery] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    async def search(self, query: VoiceQuery, *, by: OnBehalfOf) -> VoicePage:
        self.queries.append(query)
        return self.page

    async def make(
        self, order: CloneOrder, samples: Sequence[Sample], *, by: OnBehalfOf
    ) -> MadeVoice:
        self.made.append((order, samples))
        if self.failure is not None:
            raise self.failure
        return MadeVoice(NEW_VOICE)

    async def remove(self, voice_id: VoiceId, *, by: OnBehalfOf) -> bool:
        if self.failure is not None:
            raise self.failure
        self.meanwhile()
        self.removed.append(voice_id)
        return True


@dataclass
class FakeExaminer:
    """Takes everything for a recording of the same length; `refuses` names a position."""

    seconds: float = 20
    refuses: int = 0

    async def examine(self, position: int, upload: Upload) -> Recording:
        if position == self.refuses:
            raise SampleRefused(position, upload.name, "no_audio")
        return Recording("audio/wav", ".wav", timedelta(seconds=self.seconds), f"{position:064}")


class FakeKept:
    """How many speeches are kept of each user."""

    def __init__(self) -> None:
        self.of: dict[UserId, int] = {}

    async def erase_spoken(self, user_id: UserId, *, before: datetime, most: int) -> int:
        erased = min(most, self.of.get(user_id, 0))
        self.of[user_id] = self.of.get(user_id, 0) - erased
        return erased


class VoiceRoom:
    """The verbs around voices, on in-memory ports."""

    def __init__(self, *known: Voice) -> None:
        self.own_settings = FakeOwnSettings()
        self.clones = FakeClones()
        self.kept_speeches = FakeKept()
        self.published: list[Event] = []
        self.studio = FakeStudio()
        self.provider = FakeProvider(known=known or VOICES)
        self.examiner = FakeExaminer()
        self.admission = FakeAdmission()
        self.clock = StoppedClock()

    @asynccontextmanager
    async def work(self) -> AsyncIterator[VoiceRoom]:
        yield self

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        self.published.append(event)

    @property
    def told(self) -> list[str]:
        return [event.type for event in self.published]

    @property
    def clone_voice(self) -> CloneVoice:
        return CloneVoice(
            self.studio,
            self.examiner,
            self.admission,
            self.work,  # type: ignore[arg-type]
            self.clock,
        )

    @property
    def remove_voice(self) -> RemoveVoice:
        return RemoveVoice(self.studio, self.provider, self.work, self.clock)  # type: ignore[arg-type]

    @property
    def list_voices(self) -> ListVoices:
        return ListVoices(self.studio, self.work, self.remove_voice)  # type: ignore[arg-type]


def three_takes() -> tuple[bytes, bytes, bytes]:
    """Samples that any vendor takes: twelve seconds together."""
    return wav(4), wav(5), wav(3)
