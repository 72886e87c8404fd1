"""What users had said before, said again without asking anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any

import structlog

from services.voice.domain.errors import VoiceNotFound
from services.voice.domain.kept_speech import (
    Address,
    Bounds,
    KeptSpeeches,
    KeptSpeechKeys,
    KeptSpeechSeal,
    Recollections,
    marks_of_request,
)
from services.voice.domain.script import Script, SettingsWish
from shared.clock import Clock
from shared.errors import Unavailable
from shared.ids import UserId
from shared.values import dataclass

log = structlog.get_logger(__name__)

_KEPT_AT_ONCE = 50
# Another replica may have heard of a voice that goes, by another clock.
_CLOCKS_DIFFER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class SpokenBefore:
    """Keeps whole speeches, each for its own user alone, and finds them again.

    What can't be kept, or not be read again, keeps no speech from being made; without the database,
    which is asked for the user's own settings in the same moment, none is.
    """

    kept_speeches: KeptSpeeches
    recollections: Recollections
    keys: KeptSpeechKeys
    clock: Clock
    bounds: Bounds = field(default_factory=Bounds)
    # The event loop keeps only weak references to tasks; these must live until they end.
    keeping: set[asyncio.Task[None]] = field(default_factory=set, init=False, compare=False)

    async def recall(self, user_id: UserId, script: Script) -> bytes | None:
        """The audio of that very script, if this user has it."""
        place = self._place(user_id, script)
        if place is None:
            return None
        seal, address = place
        since = self.clock.now() - self.bounds.age
        try:
            sealed = await self.kept_speeches.find(user_id, address, since=since)
        except Unavailable:
            return None
        return None if sealed is None else seal.open(user_id, address, sealed)

    async def recollect(
        self, user_id: UserId, script: Script, *, may_be_recalled: bool
    ) -> tuple[SettingsWish, bytes | None]:
        """The user's own settings of the script's voice; and, where those say nothing, the audio of
        that very script, if this user has it and it may be recalled. With settings of their own
        it is another script, to be looked for by `recall`. Raises VoiceNotFound and Unavailable.
        """
        place = self._place(user_id, script) if may_be_recalled else None
        seal, address = place or (None, None)
        since = self.clock.now() - self.bounds.age
        found = await self.recollections.of(user_id, script.voice_id, address, since=since)
        if found.is_hidden:
            raise VoiceNotFound(script.voice_id)
        if seal is None or found.sealed is None or found.own != SettingsWish():
            return found.own, None
        assert address is not None
        return found.own, seal.open(user_id, address, found.sealed)

    def may_have(self, script: Script) -> bool:
        """Whether such a script is kept at all."""
        return self.bounds.admits(script) and bool(self.keys.current())

    def marks_of(self, user_id: UserId, request_hash: bytes) -> Sequence[bytes]:
        """What a repetition of the request is known by, the one to be written first."""
        return marks_of_request(self.keys.current(), user_id, request_hash)

    def record(self, user_id: UserId, script: Script, *, began: datetime) -> Recorder | None:
        """For a speech that is about to be heard; None for one that is not kept. Where it is to be
        kept is worked out at the end: its hearer waits for the first audio."""
        if not self.may_have(script) or len(self.keeping) >= _KEPT_AT_ONCE:
            return None
        return Recorder(self, user_id, script, began=began - _CLOCKS_DIFFER)

    def keep(
        self, user_id: UserId, script: Script, audio: bytes, *, began: datetime
    ) -> asyncio.Task[None]:
        """In the background: no hearer waits for it."""
        return self._see_to(self._keep(user_id, script, audio, began))

    async def drained(self, seconds: float) -> None:
        """Wait for what is being kept; the rest is not."""
        if self.keeping:
            await asyncio.wait(set(self.keeping), timeout=seconds)
        for task in set(self.keeping):
            task.cancel()

    def _place(self, user_id: UserId, script: Script) -> tuple[KeptSpeechSeal, Address] | None:
        keys = self.keys.current() if self.bounds.admits(script) else None
        if not keys:
            return None
        seal = KeptSpeechSeal(keys)
        return seal, seal.address(user_id, script)

    async def _keep(self, user_id: UserId, script: Script, audio: bytes, began: datetime) -> None:
        place = self._place(user_id, script)
        if place is None:
            return  # the keys have gone meanwhile
        seal, address = place
        try:
            sealed = await asyncio.to_thread(seal.close, user_id, address, audio)
            now = self.clock.now()
            await self.kept_speeches.keep(
                user_id, address, sealed, began=began, at=now, bounds=self.bounds
            )
        except Unavailable as failure:
            log.info("utterance_not_kept", reason=failure.code)
        except Exception:
            log.exception("utterance_not_kept")

    def _see_to(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.keeping.add(task)
        task.add_done_callback(self.keeping.discard)
        return task


class Recorder:
    """Hears a speech along with its hearer, as long as it is small enough to be kept."""

    def __init__(
        self,
        before: SpokenBefore,
        user_id: UserId,
        script: Script,
        *,
        began: datetime,
    ) -> None:
        self._before = before
        self._user_id = user_id
        self._script = script
        self._began = began
        self._pieces: list[bytes] = []
        self._room = before.bounds.bytes

    def hear(self, piece: bytes) -> None:
        self._room -= len(piece)
        if self._room >= 0:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    @property
    def is_whole(self) -> bool:
        """Whether all of what came is here yet."""
        return self._room >= 0

    def keep(self) -> asyncio.Task[None] | None:
        """The speech came whole: it may be said again. None where it is too large for that."""
        if not (self.is_whole and self._pieces):
            return None
        audio = b"".join(self._pieces)
        return self._before.keep(self._user_id, self._script, audio, began=self._began)
