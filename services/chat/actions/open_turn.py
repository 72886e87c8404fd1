"""Let a turn in: its place in the limits, and the hold on its paid call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias, TypeVar
from uuid import UUID

from services.chat.actions.withdraw_hold import WithdrawHold
from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.ports import (
    Admission,
    AdmissionRequest,
    AnswerAhead,
    Asked,
    EarlierTurn,
    Pricer,
    Reservation,
    Turns,
)
from services.chat.domain.turn import Hold, Surface, TurnId
from services.chat.domain.usage import Usage
from shared.ahead import Ahead, Meanwhile
from shared.clock import Clock
from shared.errors import Unavailable
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId, uuid7, uuid7_after
from shared.limit_state import LimitState
from shared.limits.pace import Gone, Paces
from shared.tiers import Tier, by_current_tier
from shared.values import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opening:
    """A turn that wants in. Without a session nothing of it is kept but its hold. `service_tier`:
    the vendor's own, if it asks for one with another price. `input_most`: how long the prompt may
    be, where it may be longer than its estimate."""

    by: OnBehalfOf
    tier: Tier
    choice: ModelChoice
    input_estimate: int
    cap_microusd: int | None
    surface: Surface = Surface.SESSION
    service_tier: str | None = None
    input_most: int | None = None
    session_id: SessionId | None = None
    asked: Asked | None = None
    question_id: MessageId | None = None  # of a question that is asked again
    tip_id: MessageId | None = None  # the last message that is shown in the session
    idempotency_key: str | None = None
    request_hash: bytes | None = None

    @property
    def most_input(self) -> int:
        """For how much of a prompt there has to be room."""
        return self.input_estimate if self.input_most is None else self.input_most


@dataclass(frozen=True, slots=True)
class Opened:
    """A turn that is in."""

    hold: Hold
    reservation: Reservation
    reservation_id: UUID
    opening: Opening
    ahead: Ahead[AnswerAhead] | None = None


Begin: TypeAlias = Callable[[], Ahead[AnswerAhead] | None]
"""Begins the vendor's call, if it still can."""


def _nothing() -> Begin | None:
    """The vendor is called once the hold stands."""
    return None


def _nobody(_tier: str, _seconds: float) -> None:
    """There is nobody to be told."""


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """The beginning that all turns share, whichever door they come through. `let_in` hears of each
    that got in, and how long that took."""

    turns: Turns
    admission: Admission
    withdraw: WithdrawHold
    price: Pricer
    clock: Clock
    lease: timedelta
    sandbox: bool
    let_in: Callable[[str, float], None] = _nobody
    paces: Paces = field(default_factory=Paces)

    def its_turn(
        self, user_id: UserId, tier: Tier, provider: str | None, gone: Gone | None
    ) -> AbstractAsyncContextManager[None]:
        """Within the block a turn is begun, once the tier's pace has room for it; before it nothing
        is read or reserved. `provider`: None where it may be another, or an earlier answer is to be
        told whatever the limits say.

        Raises LimitReached for whom it is known already that they would not be let in, TierBusy, or
        LeftWaiting once the client is `gone`.
        """
        # What waits before it may be the last that they are granted, so this is asked twice.
        refuse = partial(self._refuse_if_full, user_id, tier, provider)
        return self.paces.turn(tier.name, user_id, gone, refuse)

    async def __call__(
        self, opening: Opening, ahead: Callable[[], Begin | None] = _nothing
    ) -> Opened:
        """Reserve its place and write its hold: both or none. `ahead` makes ready the vendor's
        call, while the place is asked for; it begins while the hold is written, and is broken off
        unless that succeeds.

        Raises TierChanged, SessionEnded, LimitReached, Unavailable, SessionNotFound, TurnRunning,
        BranchMoved or RequestInProgress.
        """
        began = time.perf_counter()
        hold = self._hold(opening)
        ready = Meanwhile(ahead)
        try:
            reservation = await self.admit(opening, hold.id, hold.created_at)
        except BaseException:
            ready.leave()
            raise
        begun: Ahead[AnswerAhead] | None = None
        try:
            begin = ready.result()
            begun = begin() if begin is not None else None
            held = await self.turns.hold(hold, opening.asked, sandbox=self.sandbox)
        except BaseException as failure:
            _left(begun)
            self.withdraw(hold, failure)
            await asyncio.shield(reservation.refund())
            raise
        if not held:
            # Another request with this key came first, while we looked.
            _left(begun)
            await asyncio.shield(reservation.refund())
            raise RequestInProgress
        self.let_in(hold.tier, time.perf_counter() - began)
        return Opened(hold, reservation, hold.id, opening, begun)

    def _refuse_if_full(self, user_id: UserId, tier: Tier, provider: str | None) -> None:
        if provider is not None:
            self.admission.refuse_if_full(user_id, tier, provider, self.clock.now())

    async def admit(
        self, opening: Opening, reservation: UUID, now: datetime, *, is_new: bool = True
    ) -> Reservation:
        """A place in the limits. Raises TierChanged, LimitReached or Unavailable."""
        request = AdmissionRequest(
            user_id=opening.by.user_id,
            tier=opening.tier,
            provider=opening.choice.provider,
            now=now,
            reservation=reservation,
            tokens=opening.most_input + opening.choice.max_output_tokens,
            cost_microusd=self._expected_cost(opening, now),
            cap_microusd=opening.cap_microusd,
            is_new=is_new,
        )
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

        async def spent() -> int:
            return await self.turns.spent_since(opening.by.user_id, month)

        return await self.admission.admit(request, spent=spent)

    async def readmit(self, opened: Opened, choice: ModelChoice, *, used: Usage | None) -> Opened:
        """A place at another provider in exchange for the one held; the old one is given back
        first, but for what the provider that is left may charge for what it `used`.

        Raises LimitReached, TierChanged or Unavailable, and then no place is held.
        """
        await opened.reservation.refund(cost_microusd=self._cost_of(opened, used))
        opening = replace(opened.opening, choice=choice)
        id_ = opened.hold.place_at(choice.provider)
        reservation = await self.admit(opening, id_, self.clock.now(), is_new=False)
        try:
            await self.turns.redirect(opened.hold.id, provider=choice.provider, model=choice.model)
        except BaseException:
            await asyncio.shield(reservation.refund())
            raise
        return Opened(opened.hold, reservation, id_, opening)

    async def earlier(
        self, user_id: UserId, idempotency_key: str | None, request_hash: bytes
    ) -> EarlierTurn | None:
        """The settled turn that this key was used for; None when it is new.

        Raises IdempotencyKeyReused, or RequestInProgress while the earlier one runs.
        """
        if idempotency_key is None:
            return None
        earlier = await self.turns.earlier(user_id, idempotency_key)
        if earlier is None:
            return None
        if earlier.request_hash != request_hash:
            raise IdempotencyKeyReused
        if not earlier.settled:
            raise RequestInProgress
        return earlier

    async def limits_at(self, user_id: UserId, tier: Tier, provider: str) -> Sequence[LimitState]:
        """The windows that a turn at this provider would be counted in, for an answer that is told
        again; none while nobody can tell."""
        try:
            cap = await self.turns.cap_of(user_id)
            return await self.admission.states(
                user_id, tier, now=self.clock.now(), cap_microusd=cap, provider=provider
            )
        except Unavailable:
            return ()

    def by_current_tier(
        self, user_id: UserId, tier: Tier, take: Callable[[Tier], Awaitable[T]]
    ) -> Awaitable[T]:
        """What `take` does, by the tier that the user has now; see `shared.tiers`."""
        return by_current_tier(tier, lambda: self.admission.tier_told_of(user_id), take)

    def _cost_of(self, opened: Opened, used: Usage | None) -> int | None:
        if used is None:
            return None
        choice = opened.opening.choice
        quote = self.price(choice.provider, choice.model, used, opened.hold.created_at)
        return quote.cost_microusd if quote else None

    def _expected_cost(self, opening: Opening, now: datetime) -> int | None:
        if opening.cap_microusd is None:
            return None
        # The vendor may write the whole prompt to its cache, unasked or as its client wishes, which
        # costs more than to read it, or as much.
        expected = Usage(
            input_tokens=opening.most_input,
            cache_write_tokens=opening.most_input,
            output_tokens=opening.choice.max_output_tokens,
            service_tier=opening.service_tier,
        )
        quote = self.price(opening.choice.provider, opening.choice.model, expected, now)
        return quote.cost_microusd if quote else None

    def _hold(self, opening: Opening) -> Hold:
        now = self.clock.now()
        asked, question_id = opening.asked, opening.question_id
        # What follows has the higher id, by which it is found, whichever replica's clock is ahead:
        # a turn also than those that it leaves for another branch.
        before = (opening.tip_id, question_id, asked.parent_id if asked is not None else None)
        id_ = uuid7_after(max((one for one in before if one is not None), default=None))
        if asked is not None and question_id is None:
            question_id = MessageId(uuid7_after(id_))
        return Hold(
            id=TurnId(id_),
            user_id=opening.by.user_id,
            session_id=opening.session_id,
            question_id=question_id,
            answer_id=MessageId(uuid7_after(max(id_, question_id or id_))),
            usage_event_id=EventId(uuid7()),
            request_id=opening.by.request_id,
            tier=opening.tier.name,
            provider=opening.choice.provider,
            model=opening.choice.model,
            input_estimate=opening.input_estimate,
            created_at=now,
            lease_expires_at=now + self.lease,
            idempotency_key=opening.idempotency_key,
            request_hash=opening.request_hash if opening.idempotency_key else None,
            surface=opening.surface,
        )


def _left(begun: Ahead[AnswerAhead] | None) -> None:
    if begun is not None:
        begun.leave()
