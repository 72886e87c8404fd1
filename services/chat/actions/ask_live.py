"""Ask a question whose answer is to be followed while it is written."""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.actions.follow_turn import FollowTurn
from services.chat.actions.take_turn import First, Replayed, TakeTurn
from services.chat.domain.live import LiveTurn
from services.chat.domain.ports import Standing, Turns
from services.chat.domain.question import Question
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.limit_state import LimitState
from shared.limits.pace import Gone
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AskedLive:
    """The turn to follow. `replayed`: it was asked for before, with the same idempotency key, and
    this request costs nothing; `tier` is the one by which a new turn was let in."""

    turn: LiveTurn
    replayed: bool
    limits: Sequence[LimitState] = ()
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class AskLive:
    """A request that comes again follows the answer to the first, running or ended, where a plain
    one would be told to wait."""

    take_turn: TakeTurn
    turns: Turns
    follow: FollowTurn

    async def __call__(
        self, question: Question, gone: Gone | None = None, first: First | None = None
    ) -> AskedLive:
        """Raises what TakeTurn raises, RequestInProgress only when there is nothing to follow."""
        try:
            asked = await self.take_turn(question, gone, first)
        except RequestInProgress:
            return await self._again(question)
        if isinstance(asked, Replayed):
            return await self._again(question, asked.limits)
        return AskedLive(asked, replayed=False, limits=asked.limits, tier=asked.hold.tier)

    async def _again(
        self, question: Question, limits: Sequence[LimitState] | None = None
    ) -> AskedLive:
        key = question.idempotency_key
        assert key is not None
        earlier = await self.turns.earlier(question.user_id, key)
        if earlier is None or earlier.hold.session_id is None:
            # What was refused gives its key back; nothing is left of it.
            raise RequestInProgress
        if earlier.request_hash != question.request_hash:
            raise IdempotencyKeyReused
        turn = await self.follow.where(earlier, Standing(earlier), 0)
        if limits is None:
            limits = await self.take_turn.open.limits_at(
                question.user_id, question.tier, earlier.hold.provider
            )
        return AskedLive(turn, replayed=True, limits=limits)
