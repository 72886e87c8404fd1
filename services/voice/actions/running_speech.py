"""A speech while it runs: its audio, the way to end it early, and all those of this replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import structlog

from services.voice.domain.ports import Audio
from services.voice.domain.script import Script
from services.voice.domain.speech import Hold, Outcome, Settlement, SpeechId, used_by
from shared.limit_state import LimitState
from shared.revocation import Revocation
from shared.vendors.failures import VendorFailed

log = structlog.get_logger(__name__)

Write = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True, eq=False)
class RunningSpeech:
    """From its hold until it is settled. It runs at its hearer's pace, piece by piece."""

    hold: Hold
    script: Script
    limits: Sequence[LimitState]
    sign_in_id: UUID
    served_by: UUID | None = None
    ended_as: Outcome | None = None
    _audio: Audio | None = None
    _first: bytes = b""
    _upstream: AsyncExitStack = field(default_factory=AsyncExitStack)
    _reader: asyncio.Task[None] | None = None

    async def begin(self, opening: AbstractAsyncContextManager[Audio]) -> None:
        """Wait for the first piece of audio, so that a vendor that brings none can still be told
        as a failure. Raises what the vendor's opening raises, or VendorFailed."""
        async with AsyncExitStack() as stack:
            audio = await stack.enter_async_context(opening)
            self._first = await audio.read()
            if not self._first:
                raise VendorFailed(self.hold.provider)
            self._audio, self._upstream = audio, stack.pop_all()

    def end(self, outcome: Outcome) -> None:
        """Stop the audio, for the given reason; the first reason counts."""
        if self.ended_as is None:
            self.ended_as = outcome
            if self._reader is not None:
                self._reader.cancel()

    async def relay(self, write: Write) -> Outcome:
        """Pass every piece on until the audio ends, breaks, or is ended; answers which it was."""
        self._reader = asyncio.create_task(self._pass_on(write))
        if self.ended_as is not None:
            self._reader.cancel()
        try:
            await self._reader
        except VendorFailed:
            return self.ended_as or Outcome.PROVIDER_FAILED
        except OSError:
            return self.ended_as or Outcome.CLIENT_GONE
        except asyncio.CancelledError:
            # Either the speech was ended, or whoever relays it is being cancelled.
            if self.ended_as is None:
                raise
            return self.ended_as
        finally:
            await self._upstream.aclose()
        return Outcome.DONE

    async def _pass_on(self, write: Write) -> None:
        assert self._audio is not None
        read, piece = self._audio.read, self._first
        self._first = b""
        while piece:
            await write(piece)
            piece = await read()

    def settlement(self, outcome: Outcome) -> Settlement:
        """The record of a speech whose audio had begun."""
        assert self._audio is not None
        return Settlement(
            outcome, used_by(self.script, self._audio.characters), self._audio.request_id
        )


class Running(Protocol):
    """What a replica needs to know of a speech that runs."""

    sign_in_id: UUID
    served_by: UUID | None

    @property
    def hold(self) -> Hold: ...

    def end(self, outcome: Outcome) -> None:
        """Stop the audio, for the given reason; the first reason counts."""
        ...


class RunningSpeeches:
    """The speeches of this replica: for renewing their leases, ending them, and draining."""

    def __init__(self) -> None:
        self._speeches: dict[SpeechId, Running] = {}
        # The event loop keeps only weak references to tasks; these must live until they end.
        self._settling: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._speeches)

    def add(self, speech: Running) -> None:
        self._speeches[speech.hold.id] = speech

    def conclude(
        self, speech: Running, settling: Coroutine[Any, Any, object]
    ) -> asyncio.Task[None]:
        """Settle a speech in the background: nobody who leaves takes its settlement along. Until
        that is done it counts as running, so that its lease is renewed."""
        task = asyncio.create_task(self._conclude(speech, settling))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _conclude(self, speech: Running, settling: Coroutine[Any, Any, object]) -> None:
        try:
            await settling
        except Exception:
            # Its lease runs out now, and then the sweeper settles it.
            log.exception("settlement_failed", speech_id=str(speech.hold.id))
        finally:
            self._speeches.pop(speech.hold.id, None)

    def ids(self) -> list[SpeechId]:
        return list(self._speeches)

    def end_on_key(self, revocation: Revocation, outcome: Outcome) -> int:
        """End those that may run on a withdrawn key; answers how many."""
        chosen = [
            speech
            for speech in self._speeches.values()
            if revocation.ends(speech.hold, served_by=speech.served_by)
        ]
        for speech in chosen:
            speech.end(outcome)
        return len(chosen)

    def sign_ins(self) -> set[UUID]:
        """For which sign-ins something runs."""
        return {speech.sign_in_id for speech in self._speeches.values()}

    def end_of_sign_in(self, sign_in_id: UUID, outcome: Outcome) -> int:
        """End those that were asked for with it; answers how many."""
        chosen = [speech for speech in self._speeches.values() if speech.sign_in_id == sign_in_id]
        for speech in chosen:
            speech.end(outcome)
        return len(chosen)

    async def drained(self, seconds: float) -> None:
        """Wait for the settlements under way; what is left then is the sweeper's."""
        if self._settling:
            await asyncio.wait(set(self._settling), timeout=seconds)
        for task in set(self._settling):
            task.cancel()
