"""A turn while it runs: what it has said so far, who follows it, and how to end it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import field
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

import structlog

from services.chat.domain.bell import Bell
from services.chat.domain.conversation import SessionId
from services.chat.domain.live import Encode, LiveEvent
from services.chat.domain.turn import Hold, Outcome, TurnId
from services.chat.domain.turn_events import Answered, Broken, Started, TurnEvent
from services.chat.domain.usage import Usage
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.revocation import KeyInUse, Revocation
from shared.values import dataclass

log = structlog.get_logger(__name__)

_SETTLE_SECONDS = 10.0

Leave: TypeAlias = Callable[[bool], object]
"""Leave a vendor's answer; True: at once, without learning what it used."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class RunningTurn:
    """Decoupled from whoever listens: in a chat session the answer is written to its end whether or
    not anybody is there. Events are numbered from 1 in the order in which they were said.

    Its memory is bounded by the answer's length, however slowly it is followed: a follower holds a
    position and no queue.
    """

    hold: Hold
    limits: Sequence[LimitState]
    sign_in_id: UUID
    served_by: UUID | None = None  # the organisation whose key may be the one
    key: KeyInUse = field(default_factory=KeyInUse)
    provider: str = field(init=False)  # who answers now
    reservation_id: UUID | None = None
    left_out: int | None = None
    events: list[TurnEvent] = field(default_factory=list)
    output_letters: int = 0
    thought_letters: int = 0  # those of them that are thinking
    provider_request_id: str | None = None
    told: Usage | None = None  # what the vendor told of its usage by now
    counted: Usage | None = None  # and what it counted in the end
    ended_as: Outcome | None = None
    bell: Bell = field(default_factory=Bell)
    encode: Encode | None = None
    answering: Callable[[Hold, float], None] | None = None
    _began: float = field(default_factory=time.perf_counter)
    _encoded: list[LiveEvent] = field(default_factory=list)
    _over: bool = False
    _awaited: list[asyncio.Future[None]] = field(default_factory=list)
    _leave: Leave | None = None

    def __post_init__(self) -> None:
        self.provider = self.hold.provider
        self.events.append(Started(self.hold, self.left_out))

    @property
    def user_id(self) -> UserId:
        return self.hold.user_id

    @property
    def turn_id(self) -> TurnId:
        return self.hold.id

    @property
    def session_id(self) -> SessionId | None:
        return self.hold.session_id

    @property
    def created_at(self) -> datetime:
        return self.hold.created_at

    @property
    def is_over(self) -> bool:
        return self._over

    def say(self, event: TurnEvent) -> None:
        """Add an event and wake whoever follows."""
        self.events.append(event)
        if isinstance(event, Broken) and self.encode is not None:
            # Its problem document names the request, which is known here and not to a follower.
            self.said(len(self.events))
        self.bell.ring()

    def forget(self) -> None:
        """The vendor is asked again, or another one, as if nothing had been said."""
        self.output_letters = self.thought_letters = 0
        self.provider_request_id = self.told = self.counted = None

    def thinks(self, letters: int) -> None:
        """So much more of its thinking was told."""
        self.output_letters += letters
        self.thought_letters += letters

    def answers(self) -> None:
        """The first of the answer is here."""
        if self.answering is not None:
            self.answering(self.hold, time.perf_counter() - self._began)
            self.answering = None

    def over(self) -> None:
        """Nothing more will be said."""
        self._over = True
        self.bell.ring()
        awaited, self._awaited = self._awaited, []
        for ended in awaited:
            if not ended.done():
                ended.set_result(None)

    def said(self, after: int) -> Sequence[LiveEvent]:
        """What was said after the event of that number, as clients see it; each event is encoded
        once, however many follow."""
        assert self.encode is not None, "not started"
        encoded = self._encoded
        if len(encoded) < len(self.events):
            encoded.extend(map(self.encode, self.events[len(encoded) :]))
        return encoded[after:]

    def read_by(self, leave: Leave | None) -> None:
        """How to leave the vendor's answer, while it is read; None once it no longer is."""
        self._leave = leave
        if leave is not None and self.ended_as is not None:
            leave(True)

    def end(self, outcome: Outcome, *, at_once: bool = False) -> None:
        """Stop reading the vendor's answer, for the given reason; the first reason counts.

        `at_once`: not even to learn what it used; see `OnLeaving`.
        """
        is_first = self.ended_as is None
        if is_first:
            self.ended_as = outcome
            # Whoever speaks it falls silent now, not when it is settled.
            self.bell.ring()
        if self._leave is not None and (is_first or at_once):
            self._leave(at_once)

    def left(self) -> None:
        """The client of the request that began this has gone. Without a session nobody can ever
        come back for the answer."""
        if self.hold.session_id is None:
            self.end(Outcome.CLIENT_GONE)

    async def follow(self, after: int = 0) -> AsyncIterator[TurnEvent]:
        """Every event after the one of that number, until the turn is over."""
        position = after
        while True:
            while position < len(self.events):
                yield self.events[position]
                position += 1
            if self._over:
                return
            await self.more(position)

    async def more(self, position: int) -> None:
        """Return once there are more events than that, or there will never be."""
        if position < len(self.events) or self._over:
            return
        await self.bell.rung()

    async def result(self) -> Answered | Broken:
        """The last event, once the turn is over."""
        if not self._over:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Woken once: pieces are nothing to whoever wants the whole.
            self._awaited.append(ended)
            await ended
        last = self.events[-1]
        assert isinstance(last, Answered | Broken)
        return last


class RunningTurns:
    """The turns of this replica: for renewing their leases, ending them, and draining.

    `encode` makes of a turn's events what clients see; `began` hears of each turn that starts, and
    `answering` how many seconds later the first of its answer was there.
    """

    def __init__(
        self,
        encode: Encode | None = None,
        began: Sequence[Callable[[RunningTurn], None]] = (),
        answering: Callable[[Hold, float], None] | None = None,
    ) -> None:
        self._encode = encode
        self._answering = answering
        self._began = tuple(began)
        self.withdrawals = 0  # of keys, that were heard of
        self._turns: dict[TurnId, RunningTurn] = {}
        self._in_sessions: Counter[SessionId | None] = Counter()
        # The event loop keeps only weak references to tasks; these must live until they end.
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self, turn: RunningTurn, work: Coroutine[Any, Any, None]) -> None:
        """Run a turn's work to its end, and tell its followers when that is."""
        turn.encode = self._encode
        turn.answering = self._answering
        self._turns[turn.hold.id] = turn
        self._in_sessions[turn.session_id] += 1
        self._empty.clear()
        task = asyncio.create_task(self._run(turn, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        for began in self._began:
            began(turn)

    async def _run(self, turn: RunningTurn, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            turn.over()
            self._turns.pop(turn.hold.id, None)
            self._left_session(turn.session_id)
            if not self._turns:
                self._empty.set()

    def _left_session(self, session_id: SessionId | None) -> None:
        self._in_sessions[session_id] -= 1
        if not self._in_sessions[session_id]:
            del self._in_sessions[session_id]

    def of_tier(self, tier: str) -> int:
        """How many run of that tier."""
        return sum(turn.hold.tier == tier for turn in self._turns.values())

    def is_running_in(self, session_id: SessionId) -> bool:
        """Whether a turn of that session runs here."""
        return session_id in self._in_sessions

    def progress(self) -> dict[TurnId, tuple[int, str | None]]:
        """How far each turn has come."""
        return {
            id_: (turn.output_letters, turn.provider_request_id)
            for id_, turn in self._turns.items()
        }

    def reservations(self) -> list[tuple[UserId, UUID]]:
        """Whose places in the limits have to be kept."""
        return [
            (turn.user_id, turn.reservation_id or turn.hold.id)
            for turn in self._turns.values()
            if not turn.is_over
        ]

    def get(self, turn_id: TurnId) -> RunningTurn | None:
        """The turn, if it runs on this replica."""
        return self._turns.get(turn_id)

    def end(self, outcome: Outcome, *, where: Callable[[Hold], bool]) -> int:
        """End those whose hold fits; answers how many."""
        chosen = [turn for turn in self._turns.values() if where(turn.hold)]
        for turn in chosen:
            turn.end(outcome)
        return len(chosen)

    def end_on_key(self, revocation: Revocation, outcome: Outcome) -> int:
        """End those that run on a withdrawn key, or may; answers how many at once."""
        self.withdrawals += 1
        chosen = [
            turn
            for turn in self._turns.values()
            if revocation.concerns(turn, served_by=turn.served_by)
        ]
        return sum(
            turn.key.withdrawn(revocation, turn, partial(turn.end, outcome, at_once=True))
            for turn in chosen
        )

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
            for turn in list(self._turns.values()):
                turn.end(Outcome.STOPPED, at_once=True)
            await self._settled()

    async def _settled(self) -> None:
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._empty.wait()
        except TimeoutError:
            # The database is away. Their leases will run out, and then a worker settles them.
            log.warning("turns_left_unsettled", turns=len(self._turns))
