"""Ask a vendor for an answer: the one owner of retry, fallback and breaker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any
from uuid import UUID

from services.chat.actions.open_turn import Begin, Opened, OpenTurn
from services.chat.domain.attempts import AttemptPolicy, may_fall_back, may_retry
from services.chat.domain.breaker import Breakers
from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.errors import PromptTooLong
from services.chat.domain.fallback import fallbacks
from services.chat.domain.frames import Frame
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.ports import AnswerAhead, ChatProvider, NewUnitOfWork
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Abandoned, Prompt
from services.chat.domain.turn_events import FellBack
from services.chat.domain.usage import Usage, estimated_usage
from shared.ahead import Ahead
from shared.errors import ExpectedFailure, LimitReached, Unavailable
from shared.identity import OnBehalfOf
from shared.ids import EventId, uuid7
from shared.model_catalogue import ModelCatalogue
from shared.revocation import KeyOfCall
from shared.tiers import Tier, TierChanged
from shared.values import dataclass, replace
from shared.vendors.failures import VendorFailed, VendorRefused

Shorten = Callable[[Prompt], Prompt | None]
"""A prompt with less of the history; None when there is nothing to leave out."""


@dataclass(frozen=True, slots=True)
class AskVendors:
    """The one owner of attempts at vendors."""

    providers: Mapping[str, ChatProvider]
    open: OpenTurn
    unit_of_work: NewUnitOfWork
    catalogue: ModelCatalogue
    breakers: Breakers = field(default_factory=Breakers)
    policy: AttemptPolicy = field(default_factory=AttemptPolicy)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    luck: Callable[[], float] = random.random

    def attempts(
        self,
        turn: RunningTurn,
        opened: Opened,
        prompt: Prompt,
        *,
        by: OnBehalfOf,
        stream: bool,
        shorten: Shorten | None = None,
        withdrawals: Callable[[], int] = lambda: 0,
    ) -> Attempts:
        """A turn's way to its answer. `withdrawals`: of how many keys it was heard by now that they
        are withdrawn."""
        return Attempts(
            self,
            turn,
            opened,
            prompt,
            by,
            stream=stream,
            shorten=shorten,
            withdrawals=withdrawals,
        )

    def ahead(
        self, prompt: Prompt, *, by: OnBehalfOf, stream: bool, withdrawals: Callable[[], int]
    ) -> Begin | None:
        """The first attempt's call, ready to begin before there is a turn. None where that can't
        be, or something has failed lately: then it may not be called at all."""
        provider = prompt.choice.provider
        line = provider, by.user_id
        if not self.breakers.is_calm(line):
            return None
        of_call, key = by.for_call()
        try:
            answer = self.providers[provider].ahead(prompt, by=of_call, stream=stream)
        except VendorRefused:
            # Its turn will tell, or have another vendor answer.
            return None
        if answer is None:
            return None

        def begin() -> Ahead[AnswerAhead] | None:
            if not self.breakers.is_calm(line) or not answer.go():
                return None
            return Ahead(answer, key, withdrawals())

        return begin

    async def fallbacks(self, prompt: Prompt, tier: Tier, by: OnBehalfOf) -> list[ModelChoice]:
        """Who else may answer, by the user's wish; nobody while that can't be read."""
        try:
            async with self.unit_of_work() as work:
                wished = (await work.preferences.of_user(by.user_id)).fallback
                if not wished:
                    return []
                known = await work.known_keys.of_user(by.user_id, organisation_id=by.served_by)
        except Unavailable:
            return []
        spoken = {name: provider.capabilities for name, provider in self.providers.items()}
        return fallbacks(prompt, tier, wished, known, spoken, self.catalogue)


class Attempts:
    """One turn's attempts, one after the other: at the provider that was asked, and at those that
    its user wants to answer in its place.

    Its reader takes `frames`, and after a failure before any content waits for `after`. After the
    first content there is no other attempt.
    """

    def __init__(
        self,
        ask: AskVendors,
        turn: RunningTurn,
        opened: Opened,
        prompt: Prompt,
        by: OnBehalfOf,
        *,
        stream: bool,
        shorten: Shorten | None,
        withdrawals: Callable[[], int],
    ) -> None:
        self.opened = opened
        self.prompt = prompt
        self.fallback_from: str | None = None
        self.abandoned: list[Abandoned] = []
        # What the provider that was asked said when it was left for another one.
        self.left_for: ExpectedFailure | None = None
        self._ask = ask
        self._turn = turn
        self._by = by
        self._stream = stream
        self._shorten = shorten
        self._retries = 0
        self._others: list[ModelChoice] | None = None
        self._began = ask.monotonic()
        self._under_way = self._is_probe = self._may_charge = False
        self._key: KeyOfCall | None = None
        self._ahead = opened.ahead
        self._withdrawals = withdrawals

    @property
    def key_organisation_id(self) -> UUID | None:
        """The organisation on whose key this attempt was made, where that was told."""
        return self._key.organisation(self._by.user_id) if self._key is not None else None

    @property
    def may_charge(self) -> bool:
        """Whether the provider that is asked now may have worked for this turn: not before it was
        asked, nor after it declined."""
        return self._may_charge

    @property
    def shows_thinking(self) -> bool:
        """Whether a client sees what the vendor shows of its thinking: only the stream of a
        session has a place for that."""
        return self._stream and self._turn.session_id is not None

    def used(self) -> Usage:
        """What this attempt has used: as its vendor counted it, else about what it has by now."""
        turn = self._turn
        return turn.counted or estimated_usage(
            self.prompt.input_estimate,
            turn.output_letters,
            turn.told,
            thought_letters=turn.thought_letters,
            max_output_tokens=self.prompt.choice.max_output_tokens,
        )

    @property
    def is_worth_draining(self) -> bool:
        """Whether the vendor goes on, and charges, when it is left now."""
        return self._under_way and self._provider.capabilities.on_leaving is OnLeaving.DRAIN

    def frames(self) -> AsyncIterator[Frame]:
        """The frames of another attempt; raises VendorOverloaded while the breaker is open."""
        # Until its request is made nobody is asked, who could charge for it.
        self._may_charge = False
        ahead = self._begun_ahead()
        if ahead is not None:
            self._key, frames = ahead.key, ahead.call.frames()
        else:
            by, self._key = self._by.for_call()
            frames = self._provider.answer(self.prompt, by=by, stream=self._stream)
        self._is_probe = self._ask.breakers.enter(self._line)
        self._ahead = None
        self._under_way = self._may_charge = True
        return frames

    def _begun_ahead(self) -> Ahead[AnswerAhead] | None:
        ahead = self._ahead
        return None if ahead is None else ahead.unless_withdrawn(self._withdrawals())

    def _leave_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.leave()

    def worked(self) -> None:
        """The attempt brought an answer."""
        self._under_way = False
        self._ask.breakers.worked(self._line)

    def failed(self, failure: ExpectedFailure) -> None:
        """The attempt failed."""
        # What an open breaker says is not heard of the vendor.
        if self._under_way:
            self._ask.breakers.failed(self._line, failure, is_probe=self._is_probe)
            self._may_charge = isinstance(failure, VendorFailed) and failure.billed
        self._under_way = False
        self._leave_ahead()

    def left(self) -> None:
        """Nobody wants the answer any more."""
        self._leave_ahead()
        if self._under_way and self._is_probe:
            self._ask.breakers.probe_left(self._line)
        self._under_way = False

    async def after(self, failure: ExpectedFailure) -> None:
        """Return once there is another attempt to make; raises the failure when there is none."""
        if self._shortened(failure) or await self._waited(failure) or await self._moved(failure):
            return
        raise failure

    @property
    def _provider(self) -> ChatProvider:
        return self._ask.providers[self.prompt.choice.provider]

    @property
    def _line(self) -> tuple[str, Any]:
        return self.prompt.choice.provider, self._by.user_id

    def _shortened(self, failure: ExpectedFailure) -> bool:
        if not isinstance(failure, PromptTooLong) or self._shorten is None:
            return False
        shorter, self._shorten = self._shorten(self.prompt), None
        self.prompt = shorter or self.prompt
        return shorter is not None

    async def _waited(self, failure: ExpectedFailure) -> bool:
        policy = self._ask.policy
        if self._retries >= policy.most_retries or not may_retry(failure):
            return False
        wait = policy.wait_before(self._retries, failure, self._ask.luck()).total_seconds()
        elapsed = self._ask.monotonic() - self._began
        if elapsed + wait > policy.budget.total_seconds():
            return False
        # Whom somebody else can answer at once need not wait for long.
        if wait > policy.longest_wait.total_seconds() and await self._candidates(failure):
            return False
        self._retries += 1
        await self._ask.sleep(wait)
        return True

    async def _moved(self, failure: ExpectedFailure) -> bool:
        candidates = await self._candidates(failure)
        while candidates:
            if await _to_its_end(self._move(candidates.pop(0), failure)):
                return True
        return False

    async def _candidates(self, failure: ExpectedFailure) -> list[ModelChoice]:
        if not may_fall_back(failure):
            return []
        if self._others is None:
            self._others = await self._ask.fallbacks(
                self.prompt, self.opened.opening.tier, self._by
            )
        return self._others

    async def _move(self, choice: ModelChoice, failure: ExpectedFailure) -> bool:
        """Exchange the place in the limits for one at the other provider; False without one."""
        billed = isinstance(failure, VendorFailed) and failure.billed
        lost = self.used() if billed else None
        try:
            self.opened = await self._ask.open.readmit(self.opened, choice, used=lost)
        except (LimitReached, Unavailable, TierChanged):
            return False
        if lost is not None:
            self._abandon(lost)
        self.left_for = self.left_for or failure
        self.fallback_from = self.fallback_from or self.prompt.choice.provider
        self.prompt = replace(self.prompt, choice=choice)
        self._retries = 0
        turn = self._turn
        # Nobody was asked yet who answers now.
        self._key = None
        turn.forget()
        turn.provider, turn.reservation_id = choice.provider, self.opened.reservation_id
        turn.say(FellBack(choice.provider, choice.model, self.fallback_from))
        return True

    def _abandon(self, lost: Usage) -> None:
        choice = self.prompt.choice
        # A paid call of its own, whose identity stays however often it is settled.
        id_ = EventId(uuid7())
        self.abandoned.append(
            Abandoned(
                id_,
                choice.provider,
                choice.model,
                lost,
                key_organisation_id=self.key_organisation_id,
            )
        )
        self._may_charge = False


async def _to_its_end(work: Coroutine[Any, Any, bool]) -> bool:
    """Do it whole even if the turn is ended meanwhile: half of it would leave a place in the limits
    that nobody gives back."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
