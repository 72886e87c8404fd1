"""A speech while it runs: its audio, the way to end it early, and all those of this replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, field, replace
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog

from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.errors import SpeechCut, SpeechStopped
from services.voice.domain.piece import Piece
from services.voice.domain.ports import Reservation
from services.voice.domain.recital import END, Recital
from services.voice.domain.script import Script
from services.voice.domain.speech import Hold, Outcome, Settlement, SpeechId, Used
from shared.errors import ExpectedFailure
from shared.limit_state import LimitState
from shared.revocation import KeyInUse, KeyOfCall, Revocation
from shared.values import dataclass
from shared.vendors.failures import VendorFailed

log = structlog.get_logger(__name__)

Write = Callable[[bytes], Awaitable[None]]
WritePiece = Callable[[Piece], Awaitable[None]]


@dataclass(slots=True, eq=False)
class RunningSpeech:
    """From its hold until it is settled. It runs at its hearer's pace, piece by piece."""

    hold: Hold
    script: Script
    reservation: Reservation
    sign_in_id: UUID
    served_by: UUID | None = None  # the organisation whose key may be the one
    key: KeyInUse = field(default_factory=KeyInUse)
    key_of_call: KeyOfCall | None = None  # of its audio; None where no vendor is asked
    wished_format: AudioFormat | None = None  # that the user's plan at the vendor does not make
    recalled: bytes | None = None  # what was said before, and is said again
    may_be_kept: bool = False  # to be said again
    is_replayed: bool = False  # the answer to an idempotency key that was used before
    # Spoken to its end though nobody hears it any more, so that it can be given to who asks again.
    outlives_hearer: bool = False
    is_unheard: bool = False
    is_whole: bool = False  # all of its audio has come
    ended_as: Outcome | None = None
    _recital: Recital | None = None
    _relaying: asyncio.Task[Any] | None = None
    _is_cut: bool = False

    @property
    def limits(self) -> Sequence[LimitState]:
        """How the user stands with this speech's reservation."""
        return self.reservation.limits

    @property
    def reservations(self) -> Sequence[Reservation]:
        """Its places in the limits."""
        return [self.reservation]

    async def begin(self, recital: Recital) -> None:
        """Wait for the first piece of audio, so that a vendor that brings none can still be told
        as a failure. Raises what the vendor's opening raises, or VendorFailed."""
        try:
            await recital.begin()
        except BaseException:
            await recital.close()
            raise
        self._recital = recital

    def recall(self, audio: bytes) -> None:
        """It turned out to be one that was said before: it costs nothing, and is kept already."""
        self.recalled, self.may_be_kept = audio, False
        self.hold = replace(self.hold, cached=True)

    def end(self, outcome: Outcome) -> None:
        """Stop the audio, for the given reason; the first reason counts. By another task than the
        one that relays, which would cancel itself."""
        if self.ended_as is None:
            self.ended_as = outcome
            if self._relaying is not None:
                self._is_cut = True
                self._relaying.cancel()

    def left(self) -> None:
        """Its hearer is gone. By another task than the one that relays, as `end`."""
        if self.outlives_hearer:
            self.is_unheard = True
        else:
            self.end(Outcome.CLIENT_GONE)

    async def relay(self, write: WritePiece) -> Outcome:
        """Pass every piece on until the audio ends, breaks, or is ended; answers which it was.

        In the task of who relays it, so that the first piece is written without another turn of the
        event loop. `end` cancels that task for just as long as this lasts, and it is answered here,
        in the way of `asyncio.timeout`.
        """
        assert self._recital is not None
        try:
            return self.ended_as or await self._pass_on(write)
        except VendorFailed:
            return self.ended_as or Outcome.PROVIDER_FAILED
        except OSError:
            return self.ended_as or Outcome.CLIENT_GONE
        finally:
            await self._recital.close()

    async def _pass_on(self, write: WritePiece) -> Outcome:
        assert self._recital is not None
        task = self._relaying = asyncio.current_task()
        assert task is not None
        cancelled_before, read = task.cancelling(), self._recital.read
        try:
            while (piece := await read()) is not END:
                await write(piece)
        except asyncio.CancelledError:
            # Either the speech was ended, or whoever relays it is being cancelled, or both.
            is_ours = self._is_cut and task.cancelling() == cancelled_before + 1
            if self.ended_as is None or not is_ours:
                raise
            return self.ended_as
        finally:
            self._relaying = None
            if self._is_cut:
                task.uncancel()
        self.is_whole = True
        return Outcome.CLIENT_GONE if self.is_unheard else Outcome.DONE

    def settlement(self, outcome: Outcome) -> Settlement:
        """The record of a speech whose audio had begun."""
        assert self._recital is not None
        used = Used(0, "counted") if self.hold.cached else self._recital.used
        key, user_id = None if self.hold.cached else self.key_of_call, self.hold.user_id
        organisation_id = key.organisation(user_id) if key is not None else None
        return Settlement(outcome, used, self._recital.request_id, organisation_id)

    def failure(self, outcome: Outcome) -> ExpectedFailure:
        """What a hearer is told whom not all of it reached, with what it costs all the same."""
        used = self.settlement(outcome).used
        usage = None if used is None else asdict(used)
        if outcome is Outcome.PROVIDER_FAILED:
            return SpeechCut(self.hold.provider, self.hold.id, usage)
        return SpeechStopped(self.hold.id, usage)


class Running(Protocol):
    """What a replica needs to know of a speech that runs."""

    sign_in_id: UUID
    served_by: UUID | None
    key: KeyInUse

    @property
    def hold(self) -> Hold: ...

    @property
    def reservations(self) -> Sequence[Reservation]:
        """Its places in the limits."""
        ...

    def end(self, outcome: Outcome) -> None:
        """Stop the audio, for the given reason; the first reason counts."""
        ...


class RunningSpeeches:
    """The speeches of this replica: for renewing their leases, ending them, and draining."""

    def __init__(self) -> None:
        self.withdrawals = 0  # of keys, that were heard of
        self._speeches: dict[SpeechId, Running] = {}
        # The event loop keeps only weak references to tasks; these must live until they end.
        self._settling: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._speeches)

    def of_tier(self, tier: str) -> int:
        """How many run of that tier."""
        return sum(speech.hold.tier == tier for speech in self._speeches.values())

    def add(self, speech: Running) -> None:
        self._speeches[speech.hold.id] = speech

    def drop(self, speech: Running) -> None:
        """It has ended before there was anything to settle."""
        self._speeches.pop(speech.hold.id, None)

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

    def reservations(self) -> list[Reservation]:
        return [place for speech in self._speeches.values() for place in speech.reservations]

    def end_on_key(self, revocation: Revocation, outcome: Outcome) -> int:
        """End those that run on a withdrawn key, or may; answers how many at once."""
        self.withdrawals += 1
        chosen = [
            speech
            for speech in self._speeches.values()
            if revocation.concerns(speech.hold, served_by=speech.served_by)
        ]
        return sum(
            speech.key.withdrawn(revocation, speech.hold, partial(speech.end, outcome))
            for speech in chosen
        )

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
