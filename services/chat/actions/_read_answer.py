"""Read one answer into a running turn, from the first attempt to the last frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta

import structlog

from services.chat.actions._ask_vendors import Attempts
from services.chat.domain.content import ToolCall
from services.chat.domain.errors import ContentBlocked, TurnTooLong
from services.chat.domain.frames import (
    LONGEST_ANSWER,
    Began,
    Ended,
    Frame,
    Text,
    Thinking,
    Thoughts,
    ToolCallPiece,
)
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome, Settlement, outcome_of
from services.chat.domain.turn_events import CallsTool, Delta, Thinks
from services.chat.domain.usage import Usage, letters_of
from shared.errors import ExpectedFailure
from shared.vendors.failures import VendorFailed

log = structlog.get_logger(__name__)

# In a session somebody waits for the record: for the next question, and on other devices.
_SESSION_DRAIN_SECONDS = 1.0
_DRAIN_SECONDS = 30.0


class Drains:
    """How many answers that nobody wants any more this replica still reads, for their usage."""

    def __init__(self, most: int = 64) -> None:
        self._left = most

    def take(self) -> bool:
        """Whether there is room for one more."""
        if self._left == 0:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        self._left += 1


def _nothing() -> None:
    """There is nobody left to tell."""


class Reading:
    """Reads one answer. Runs in the turn's own task, which the turn's end cancels or, where the
    vendor would go on and charge, lets read on in silence."""

    def __init__(
        self,
        turn: RunningTurn,
        attempts: Attempts,
        drains: Drains,
        on_slow_drain: Callable[[], None],
        longest: timedelta,
    ) -> None:
        self.failure: ExpectedFailure | None = None
        self._turn = turn
        self._attempts = attempts
        self._drains = drains
        self._on_slow_drain = on_slow_drain
        self._longest_seconds = longest.total_seconds()
        self._is_late = False
        self._parts: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._thoughts = Thoughts(())
        self._ended: Ended | None = None
        self._model: str | None = None
        self._shows_thinking = False
        self._task: asyncio.Task[object] | None = None
        self._draining = False
        self._timers: list[asyncio.TimerHandle] = []

    async def run(self) -> None:
        """Read to the end, or until the turn is ended; afterwards `failure` tells why it failed, if
        it did, and nothing cancels this task any more."""
        self._task = asyncio.current_task()
        try:
            # It may have been ended before this task had its first turn.
            if self._turn.ended_as is None:
                self._turn.read_by(self.leave)
                later = asyncio.get_running_loop().call_later
                self._timers.append(later(self._longest_seconds, self._end_late))
                await self._read()
        except asyncio.CancelledError:
            if self._turn.ended_as is None:
                if not self._is_late:
                    raise
                self.failure = TurnTooLong(
                    self._attempts.prompt.choice.provider, billed=self._attempts.may_charge
                )
            assert self._task is not None
            # However often it was told to end: what follows has time limits of its own.
            while self._task.uncancel():
                pass
        except ExpectedFailure as failure:
            self.failure = None if self._turn.ended_as else failure
        except Exception:
            # A bug of ours: the turn is settled, and may be charged if the vendor was asked.
            provider, billed = self._attempts.prompt.choice.provider, self._attempts.may_charge
            log.exception("reading_failed", provider=provider, vendor_asked=billed)
            self.failure = VendorFailed(provider, billed=billed)
        finally:
            self._turn.read_by(None)
            self._close()

    def leave(self, at_once: bool) -> None:
        """Stop reading, or go on in silence: what the vendor's own behaviour asks for."""
        assert self._task is not None
        if at_once or not self._attempts.is_worth_draining or not self._drains.take():
            self._task.cancel()
            return
        self._draining = True
        later = asyncio.get_running_loop().call_later
        if self._turn.session_id is not None:
            self._timers.append(later(_SESSION_DRAIN_SECONDS, self._task.cancel))
            return
        self._timers += [
            later(_SESSION_DRAIN_SECONDS, self._on_slow_drain),
            later(_DRAIN_SECONDS, self._task.cancel),
        ]

    def _end_late(self) -> None:
        self._is_late = True
        assert self._task is not None
        self._task.cancel()

    async def _read(self) -> None:
        attempts = self._attempts
        while True:
            try:
                await self._read_once(attempts.frames())
                attempts.worked()
                return
            except ExpectedFailure as failure:
                attempts.failed(failure)
                if self._has_content or self._turn.ended_as is not None:
                    raise
                await attempts.after(failure)
                self._forget()

    async def _read_once(self, frames: AsyncIterator[Frame]) -> None:
        turn, parts = self._turn, self._parts
        async with aclosing(frames):  # type: ignore[type-var]
            async for frame in frames:
                if turn.ended_as is not None:
                    self._take_in_silence(frame)
                elif isinstance(frame, Text):
                    if not parts:
                        turn.answers()
                    parts.append(frame.text)
                    turn.output_letters += letters_of(frame.text)
                    turn.say(Delta(frame.text))
                else:
                    self._take(frame)
                if turn.output_letters > LONGEST_ANSWER:
                    raise VendorFailed(self._attempts.prompt.choice.provider)
        self._check(self._ended)

    def _check(self, ended: Ended | None) -> None:
        provider = self._attempts.prompt.choice.provider
        if ended is None:
            raise VendorFailed(provider)
        outcome = outcome_of(ended, has_content=self._has_content)
        if outcome is Outcome.DONE:
            return
        log.info("nothing_answered", provider=provider, outcome=outcome.value, why=ended.told_why)
        if outcome is Outcome.CONTENT_BLOCKED:
            raise ContentBlocked(provider, ended.ratings, ended.told_why)
        self._ended = None
        self._attempts.worked()
        raise VendorFailed(provider)

    def _take(self, frame: Frame) -> None:
        turn = self._turn
        if isinstance(frame, ToolCallPiece):
            self._calls.setdefault(frame.index, _Call()).add(frame)
            turn.output_letters += letters_of(frame.arguments)
            turn.say(CallsTool(frame.index, frame.id, frame.name, frame.arguments))
        elif isinstance(frame, Thinking):
            turn.thinks(letters_of(frame.text))
            turn.say(Thinks(frame.text))
            self._shows_thinking = self._attempts.shows_thinking
        elif isinstance(frame, Began):
            turn.provider_request_id, turn.told = frame.provider_request_id, frame.usage
            self._model = frame.model
        elif isinstance(frame, Thoughts):
            self._thoughts = frame
        elif isinstance(frame, Ended):
            self._ended, turn.counted = frame, frame.usage

    def _take_in_silence(self, frame: Frame) -> None:
        if not self._draining:
            # The cancellation was lost on its way, as Python 3.11 may in `asyncio.wait_for`.
            raise asyncio.CancelledError
        if isinstance(frame, Text):
            self._turn.output_letters += letters_of(frame.text)
        elif isinstance(frame, Thinking):
            self._turn.thinks(letters_of(frame.text))
        elif isinstance(frame, ToolCallPiece):
            self._turn.output_letters += letters_of(frame.arguments)
        elif isinstance(frame, Began | Ended):
            self._take(frame)

    @property
    def _has_content(self) -> bool:
        return bool(self._calls) or any(self._parts)

    def _forget(self) -> None:
        """Of an attempt without content nothing is kept."""
        self._parts.clear()
        self._thoughts, self._ended, self._model = Thoughts(()), None, None
        self._turn.forget()
        self._shows_thinking = False

    def _close(self) -> None:
        self._attempts.left()
        for timer in self._timers:
            timer.cancel()
        if self._draining:
            self._drains.give_back()
        # These lead back here: a circle would keep the whole answer until the collector comes by,
        # which it seldom does.
        self._task, self._on_slow_drain = None, _nothing

    def settlement(self, elapsed_ms: int) -> Settlement:
        """The terminal record of what was read so far."""
        text = "".join(self._parts)
        calls = tuple(call.whole() for _, call in sorted(self._calls.items()))
        attempts = self._attempts
        outcome = self._outcome(has_content=bool(text or calls))
        return Settlement(
            outcome=outcome,
            text=text,
            usage=self._usage(),
            provider=attempts.prompt.choice.provider,
            model=self._model or attempts.prompt.choice.model,
            provider_request_id=self._turn.provider_request_id,
            processing_time_ms=elapsed_ms,
            finish_reason=self._finish_reason(outcome),
            tool_calls=calls,
            thoughts=self._thoughts.blocks,
            fallback_from=attempts.fallback_from,
            abandoned=tuple(attempts.abandoned),
            shows_more=self._shows_thinking,
            safety_ratings=self._ended.ratings if self._ended is not None else None,
            key_organisation_id=attempts.key_organisation_id,
        )

    def _outcome(self, *, has_content: bool) -> Outcome:
        failure = self.failure
        if isinstance(failure, ContentBlocked):
            return Outcome.CONTENT_BLOCKED
        if failure is not None:
            # Only a vendor that has worked can charge; a refusal, ours or theirs, is free.
            billed = isinstance(failure, VendorFailed) and failure.billed
            worked = has_content or billed or self._turn.output_letters > 0
            return Outcome.PROVIDER_FAILED if worked else Outcome.REFUSED
        if self._ended is not None and not self._draining:
            return Outcome.DONE
        return self._turn.ended_as or Outcome.DONE

    def _finish_reason(self, outcome: Outcome) -> str:
        if self._ended is not None and outcome in {Outcome.DONE, Outcome.CONTENT_BLOCKED}:
            return self._ended.reason
        return outcome.value

    def _usage(self) -> Usage:
        # What was said is charged, even if its vendor says afterwards that it was too busy.
        is_owed = self._attempts.may_charge or self._has_content
        if self.failure is None and self._turn.counted is None and not is_owed:
            # It was ended before a vendor was asked, or while it waited to ask again.
            return Usage(source="counted")
        return self._attempts.used()


class _Call:
    """A tool call while it is put together."""

    def __init__(self) -> None:
        self._id = self._name = ""
        self._signature: str | None = None
        self._arguments: list[str] = []

    def add(self, piece: ToolCallPiece) -> None:
        self._id = piece.id or self._id
        self._name = piece.name or self._name
        self._signature = piece.signature or self._signature
        self._arguments.append(piece.arguments)

    def whole(self) -> ToolCall:
        return ToolCall(self._id, self._name, "".join(self._arguments), self._signature)
