"""What users had said before, and the engine without a vendor, on in-memory ports."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from services.voice.actions._spoken_before import SpokenBefore
from services.voice.domain.kept_speech import Address, Bounds, Recollection
from services.voice.domain.ports import Audio
from services.voice.domain.script import Script, SettingsWish
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId
from services.voice.domain.whole_audio import WholeAudio
from shared.clock import Clock
from shared.errors import DependencyUnavailable
from shared.ids import UserId

KEYS = {1: bytes(range(32))}


@dataclass(slots=True)
class MemoryKeptSpeeches:
    """Sealed audio in memory. `is_away`: the database does not answer."""

    kept: dict[tuple[UserId, Address], tuple[datetime, bytes]] = field(default_factory=dict)
    is_away: bool = False
    began: list[datetime] = field(default_factory=list)

    async def find(self, user_id: UserId, address: Address, *, since: datetime) -> bytes | None:
        self._reach()
        at, sealed = self.kept.get((user_id, address), (None, None))
        return sealed if at is not None and at >= since else None

    async def keep(
        self,
        user_id: UserId,
        address: Address,
        sealed: bytes,
        *,
        began: datetime,
        at: datetime,
        bounds: Bounds,
    ) -> None:
        self._reach()
        self.began.append(began)
        self.kept[user_id, address] = (at, sealed)

    async def drop_before(self, moment: datetime, *, most: int) -> int:
        old = [place for place, (at, _) in self.kept.items() if at < moment][:most]
        for place in old:
            del self.kept[place]
        return len(old)

    def _reach(self) -> None:
        if self.is_away:
            raise DependencyUnavailable("database")


@dataclass(slots=True)
class MemoryRecollections:
    """Own settings in memory, beside what is kept there. `looks` counts how often it was asked."""

    kept_speeches: MemoryKeptSpeeches
    own: dict[tuple[UserId, VoiceId], SettingsWish] = field(default_factory=dict)
    hidden: set[tuple[UserId, VoiceId]] = field(default_factory=set)
    looks: int = 0

    async def of(
        self,
        user_id: UserId,
        voice_id: VoiceId,
        address: Address | None = None,
        *,
        since: datetime | None = None,
    ) -> Recollection:
        self.looks += 1
        own = self.own.get((user_id, voice_id), SettingsWish())
        is_hidden = (user_id, voice_id) in self.hidden
        if address is None or since is None:
            return Recollection(own, is_hidden=is_hidden)
        sealed = await self.kept_speeches.find(user_id, address, since=since)
        return Recollection(own, sealed, is_hidden)


@dataclass(slots=True)
class MemoryKeys:
    """The sealing keys; a test may change them, or take them away."""

    keys: Mapping[int, bytes] | None = field(default_factory=lambda: KEYS)

    def current(self) -> Mapping[int, bytes] | None:
        return self.keys


def spoken_before(clock: Clock, bounds: Bounds | None = None) -> SpokenBefore:
    kept = MemoryKeptSpeeches()
    recollections = MemoryRecollections(kept)
    return SpokenBefore(kept, recollections, MemoryKeys(), clock, bounds or Bounds())


@dataclass(slots=True)
class FakeEngine:
    """Says the text's own bytes."""

    default_voice: VoiceId = field(default_factory=lambda: VoiceId("espeak-en-us"))
    scripts: list[Script] = field(default_factory=list)
    failure: Exception | None = None

    def voices(self) -> Sequence[Voice]:
        return [
            Voice(VoiceId(id_), id_, VoiceCategory.BASIC) for id_ in ("espeak-de", "espeak-en-us")
        ]

    @asynccontextmanager
    async def speak(self, script: Script) -> AsyncIterator[Audio]:
        self.scripts.append(script)
        if self.failure is not None:
            raise self.failure
        yield WholeAudio(script.text.encode())


def write_kept_speech_keys(path: Path, *versions: int) -> Path:
    """A file of sealing keys."""
    keys = [
        {"version": version, "key": b64encode(os.urandom(32)).decode()}
        for version in versions or (1,)
    ]
    path.write_text(json.dumps({"sealing_keys": keys}))
    return path
