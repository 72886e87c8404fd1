"""Run a turn that was let in: read the vendor's answer, settle it once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import field
from datetime import datetime, timedelta

import structlog

from services.chat.actions._ask_vendors import AskVendors, Attempts, Shorten
from services.chat.actions._read_answer import Drains, Reading
from services.chat.actions.open_turn import Begin, Opened
from services.chat.actions.settle_turn import SettleTurn
from services.chat.domain.conversation import Message, SessionId
from services.chat.domain.errors import AnswerLost
from services.chat.domain.ports import Reservation
from services.chat.domain.running_turn import RunningTurn, RunningTurns
from services.chat.domain.stored_answer import with_stored_answer
from services.chat.domain.turn import Prompt, Settlement
from services.chat.domain.turn_events import Answered, Broken, UsageTold
from shared.errors import DependencyUnavailable, ExpectedFailure
from shared.identity import OnBehalfOf
from shared.values import dataclass, replace

log = structlog.get_logger(__name__)

_SETTLE_PATIENCE_SECONDS = 5.0

Remember = Callable[[Settlement], Awaitable[None]]
"""What else is to be kept of a turn that has ended."""


@dataclass(frozen=True, slots=True)
class RunTurn:
    """What every turn does between its hold and its settlement."""

    ask: AskVendors
    settle: SettleTurn
    running: RunningTurns
    drains: Drains = field(default_factory=Drains)
    longest: timedelta = timedelta(minutes=10)

    def ahead(
        self, prompt: Prompt, *, by: OnBehalfOf, stream: bool, session_id: SessionId | None = None
    ) -> Begin | None:
        """Make ready the call to the vendor, for `opened.ahead`; None where it is better made
        later."""
        if session_id is not None and self.running.is_running_in(session_id):
            # The hold will be refused: nobody's key need be asked for.
            return None
        begin = self.ask.ahead(
            prompt, by=by, stream=stream, withdrawals=lambda: self.running.withdrawals
        )
        if begin is None or session_id is None:
            return begin
        # Its place was waited for since.
        return lambda: None if self.running.is_running_in(session_id) else begin()

    def __call__(
        self,
        opened: Opened,
        prompt: Prompt,
        *,
        by: OnBehalfOf,
        stream: bool,
        shorten: Shorten | None = None,
        remember: Remember | None = None,
        left_out: int | None = None,
    ) -> RunningTurn:
        """The turn, running by itself: whoever follows it may come and go. `shorten` makes the
        prompt shorter, once, should the vendor find it too long; `remember` is done before the end
        is told."""
        turn = RunningTurn(
            opened.hold,
            opened.reservation.limits,
            by.sign_in_id,
            by.organisation_id,
            key=by.key,
            reservation_id=opened.reservation_id,
            left_out=left_out,
        )
        attempts = self.ask.attempts(
            turn,
            opened,
            prompt,
            by=by,
            stream=stream,
            shorten=shorten,
            withdrawals=lambda: self.running.withdrawals,
        )
        self.running.start(turn, _Run(self, turn, attempts, remember)())
        return turn


class _Run:
    """One turn's work, in one task: it reads, gives back its place, settles, and says the last."""

    def __init__(
        self,
        how: RunTurn,
        turn: RunningTurn,
        attempts: Attempts,
        remember: Remember | None,
    ) -> None:
        self._settle = how.settle
        self._remember = remember
        self._turn = turn
        self._attempts = attempts
        self._reading = Reading(turn, attempts, how.drains, self._tell_early, how.longest)
        self._began = time.perf_counter()
        self._given_back: asyncio.Task[None] | None = None
        self._told: Settlement | None = None
        self._ended_at: datetime | None = None

    async def __call__(self) -> None:
        await self._reading.run()
        try:
            await self._conclude(self._settlement())
        except Exception:
            # A bug of ours. The hold stays open: once nobody renews its lease, a worker settles it.
            log.exception("turn_not_settled", turn_id=str(self._turn.hold.id))
            self._break(AnswerLost(None))

    def _settlement(self) -> Settlement:
        elapsed_ms = round((time.perf_counter() - self._began) * 1000)
        hold = self._turn.hold
        # What is told now is stored later, and told again from there.
        self._ended_at = self._ended_at or self._settle.clock.now()
        settlement = replace(self._reading.settlement(elapsed_ms), at=self._ended_at)
        return with_stored_answer(hold, self._settle.priced(hold, settlement))

    async def _conclude(self, settlement: Settlement) -> None:
        loop = asyncio.get_running_loop()
        settling = loop.create_task(self._settle(self._turn.hold, settlement))
        # The client need not wait for our database; the settlement goes on without it.
        impatient = loop.call_later(_SETTLE_PATIENCE_SECONDS, self._break_before, settling)
        try:
            # Its statement goes out before the counters are told: that is the longer way.
            await asyncio.sleep(0)
            await self._give_back(settlement)
            await self._remembered(settlement)
            message = await settling
        finally:
            impatient.cancel()
        self._tell(message, settlement)

    def _tell(self, message: Message, settlement: Settlement) -> None:
        turn, failure = self._turn, self._reading.failure
        if turn.is_over:
            return
        if failure is None and message.status is not settlement.outcome.answer_status:
            # This replica was taken for dead, and what is kept may be less than was said here.
            turn.say(Broken(AnswerLost(message.finish_reason), message))
        elif failure is None:
            turn.say(UsageTold(message))
            turn.say(_answered(message, settlement))
        else:
            kept = message if settlement.has_content else None
            turn.say(Broken(self._attempts.left_for or failure, kept))

    def _tell_early(self) -> None:
        """A stopped answer is read on for its usage: those who wait for the stop, and the limits,
        get an estimate; the record waits."""
        settlement = self._settlement()
        self._tell(self._settle.message(self._turn.hold, settlement), settlement)
        self._turn.over()
        self._told = settlement
        self._given_back = asyncio.ensure_future(
            give_back(self._attempts.opened.reservation, settlement)
        )

    async def _remembered(self, settlement: Settlement) -> None:
        if self._remember is None:
            return
        try:
            await self._remember(settlement)
        except Exception:
            # It would have made the next turn easier; this one is complete without it.
            log.exception("turn_not_remembered", turn_id=str(self._turn.hold.id))

    def _break_before(self, settling: asyncio.Future[Message]) -> None:
        if not settling.done():
            self._break(DependencyUnavailable("database"))

    def _break(self, failure: ExpectedFailure) -> None:
        if not self._turn.is_over:
            self._turn.say(Broken(failure, None))
            self._turn.over()

    async def _give_back(self, settlement: Settlement) -> None:
        try:
            reservation = self._attempts.opened.reservation
            if self._given_back is None:
                await give_back(reservation, settlement)
            else:
                await self._given_back
                await count_what_is_owed(reservation, self._told, settlement)
        except Exception:
            # Its lease in the limits runs out by itself; the settlement goes on without it.
            log.exception("place_not_given_back", turn_id=str(self._turn.hold.id))


def _answered(message: Message, settlement: Settlement) -> Answered:
    # As it is stored, should that be another one than was settled here.
    reason = message.finish_reason or "stop"
    return Answered(message, reason, settlement.fallback_from, message.tool_calls)


async def give_back(reservation: Reservation, settlement: Settlement) -> None:
    """Charge the tier's limits with what reached the user, and with nothing when nothing did; and
    their own cap on money with what the ledger will say."""
    if settlement.reached_user:
        await reservation.settle(
            tokens=settlement.usage.total_tokens, cost_microusd=settlement.cost_microusd
        )
    else:
        await reservation.refund(cost_microusd=settlement.cost_microusd)


async def count_what_is_owed(
    reservation: Reservation, told: Settlement | None, settlement: Settlement
) -> None:
    """Of a place that was given back by what was `told` then, count under the user's own cap what
    its vendor charged beyond that."""
    if told is None or told.cost_microusd is None:
        return
    owed = (settlement.cost_microusd or 0) - told.cost_microusd
    if owed > 0:
        await reservation.owes(cost_microusd=owed)
