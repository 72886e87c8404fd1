"""A turn while it runs: what it has said so far, who follows it, and how to end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from services.chat.domain.conversation import Message
from services.chat.domain.turn import Hold, Outcome, TurnId
from shared.errors import ExpectedFailure
from shared.limit_state import LimitState
from shared.revocation import Revocation


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The turn is settled: its message, with usage and cost."""

    message: Message
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The turn failed; `message` is what was written before, None when nothing was."""

    failure: ExpectedFailure
    message: Message | None


TurnEvent: TypeAlias = Delta | Answered | Broken


@dataclass(slots=True, eq=False)
class RunningTurn:
    """Decoupled from whoever listens: a client that goes away does not end it by itself."""

    hold: Hold
    limits: Sequence[LimitState]
    sign_in_id: UUID
    served_by: UUID | None = None
    events: list[TurnEvent] = field(default_factory=list)
    output_characters: int = 0
    provider_request_id: str | None = None
    ended_as: Outcome | None = None
    _over: bool = False
    _waiters: list[asyncio.Future[None]] = field(default_factory=list)
    _reader: asyncio.Task[Any] | None = None

    def say(self, event: TurnEvent) -> None:
        """Add an event and wake whoever follows."""
        self.events.append(event)
        self._wake()

    def over(self) -> None:
        """Nothing more will be said."""
        self._over = True
        self._wake()

    def read_by(self, reader: asyncio.Task[Any]) -> None:
        """The task that reads the vendor's answer; ending the turn cancels it."""
        self._reader = reader
        if self.ended_as is not None:
            reader.cancel()

    def end(self, outcome: Outcome) -> None:
        """Stop reading the vendor's answer, for the given reason; the first reason counts."""
        if self.ended_as is None:
            self.ended_as = outcome
            if self._reader is not None:
                self._reader.cancel()

    async def follow(self) -> AsyncIterator[TurnEvent]:
        """Every event from the first one on, until the turn is over."""
        position = 0
        while True:
            while position < len(self.events):
                yield self.events[position]
                position += 1
            if self._over:
                return
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    async def result(self) -> Answered | Broken:
        """The last event, once the turn is over."""
        last: TurnEvent | None = None
        async for event in self.follow():
            last = event
        assert isinstance(last, Answered | Broken)
        return last

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class RunningTurns:
    """The turns of this replica: for renewing their leases, ending them, and draining."""

    def __init__(self) -> None:
        self._turns: dict[TurnId, RunningTurn] = {}
        # The event loop keeps only weak references to tasks; these must live until they end.
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self, turn: RunningTurn, work: Coroutine[Any, Any, None]) -> None:
        """Run a turn's work to its end, and tell its followers when that is."""
        self._turns[turn.hold.id] = turn
        self._empty.clear()
        task = asyncio.create_task(self._run(turn, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, turn: RunningTurn, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            turn.over()
            self._turns.pop(turn.hold.id, None)
            if not self._turns:
                self._empty.set()

    def progress(self) -> dict[TurnId, tuple[int, str | None]]:
        """How far each turn has come."""
        return {
            id_: (turn.output_characters, turn.provider_request_id)
            for id_, turn in self._turns.items()
        }

    def end(self, outcome: Outcome, *, where: Callable[[Hold], bool]) -> int:
        """End those whose hold fits; answers how many."""
        chosen = [turn for turn in self._turns.values() if where(turn.hold)]
        for turn in chosen:
            turn.end(outcome)
        return len(chosen)

    def end_on_key(self, revocation: Revocation, outcome: Outcome) -> int:
        """End those that may run on a withdrawn key; answers how many."""
        chosen = [
            turn
            for turn in self._turns.values()
            if revocation.ends(turn.hold, served_by=turn.served_by)
        ]
        for turn in chosen:
            turn.end(outcome)
        return len(chosen)

    def sign_ins(self) -> set[UUID]:
        """For which sign-ins something runs."""
        return {turn.sign_in_id for turn in self._turns.values()}

    def end_of_sign_in(self, sign_in_id: UUID, outcome: Outcome) -> int:
        """End those that were asked for with it; answers how many."""
        chosen = [turn for turn in self._turns.values() if turn.sign_in_id == sign_in_id]
        for turn in chosen:
            turn.end(outcome)
        return len(chosen)

    async def drained(self, seconds: float) -> None:
        """Wait for the turns to end, then end those that don't, and wait for their settlement."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            self.end(Outcome.STOPPED, where=lambda _hold: True)
            async with asyncio.timeout(10):
                await self._empty.wait()
