"""The hot path: a question to a chat session, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from services.chat.actions.compose_prompt import ComposePrompt
from services.chat.actions.follow_turn import retold
from services.chat.actions.open_turn import Opening, OpenTurn
from services.chat.actions.run_turn import RunTurn
from services.chat.domain.context_window import halved
from services.chat.domain.conversation import Message
from services.chat.domain.errors import BranchMoved, ProviderNotSpoken, SessionNotFound
from services.chat.domain.features import long_contexts
from services.chat.domain.model_choice import choose_model
from services.chat.domain.ports import Beginning, ChatProvider, EarlierTurn, Turns
from services.chat.domain.question import Question
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Hold
from services.chat.domain.turn_events import Answered, Broken, TurnEvent
from shared.limit_state import LimitState
from shared.limits.pace import Gone
from shared.model_catalogue import ModelCatalogue
from shared.tiers import COMPATIBLE, Tier
from shared.values import dataclass

First: TypeAlias = Callable[[], Awaitable[None]]
"""What has to be there before a question is asked; for each tier by which it is tried."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer that this idempotency key was given before."""

    message: Message
    earlier: EarlierTurn
    limits: Sequence[LimitState] = ()

    @property
    def hold(self) -> Hold:
        return self.earlier.hold

    @property
    def fallback_from(self) -> str | None:
        return self.earlier.fallback_from

    def events(self) -> Sequence[TurnEvent]:
        """What a follower would have heard, the text in one piece."""
        return retold(self.earlier)

    @property
    def result(self) -> Answered | Broken:
        """The last of them."""
        last = self.events()[-1]
        assert isinstance(last, Answered | Broken)
        return last


@dataclass(frozen=True, slots=True)
class TakeTurn:
    """Ask a question and start its answer."""

    turns: Turns
    open: OpenTurn
    run: RunTurn
    providers: Mapping[str, ChatProvider]
    catalogue: ModelCatalogue
    compose: ComposePrompt

    async def __call__(
        self, question: Question, gone: Gone | None = None, first: First | None = None
    ) -> RunningTurn | Replayed:
        """The turn, running: admitted, held, and with the vendor being asked. A client that is
        `gone` before its turn came has asked nothing; `first` is done once it has.

        Raises what `first` does, SessionNotFound, SessionEnded, NotInTier, LimitReached,
        Unavailable, TurnRunning, BranchMoved, RequestInProgress, IdempotencyKeyReused or what
        ComposePrompt raises; what the vendor has to say comes with the turn's events.
        """
        return await self.open.by_current_tier(
            question.user_id,
            question.tier,
            lambda tier: self._in_turn(question, tier, gone, first),
        )

    async def _in_turn(
        self, question: Question, tier: Tier, gone: Gone | None, first: First | None
    ) -> RunningTurn | Replayed:
        known = self._known_provider(question, tier)
        async with self.open.its_turn(question.user_id, tier, known, gone):
            if first is not None:
                await first()
            try:
                return await self._take(question, tier)
            except BranchMoved:
                # By another device, while this one's question was on its way into it.
                return await self._take(question, tier)

    async def _take(self, question: Question, tier: Tier) -> RunningTurn | Replayed:
        # Only a request that may be repeated has to be told from others.
        request_hash = question.request_hash if question.idempotency_key is not None else b""
        beginning = await self._beginning(question, tier)
        earlier = await self.open.earlier(question.user_id, question.idempotency_key, request_hash)
        if earlier is not None and earlier.answer is not None:
            provider = earlier.hold.provider
            limits = await self.open.limits_at(question.user_id, tier, provider)
            return Replayed(earlier.answer, earlier, limits)
        session = beginning.session
        choice = choose_model(
            tier, question.provider or session.provider, question.model, self.catalogue
        )
        if choice.provider not in self.providers:
            raise ProviderNotSpoken(choice.provider)
        composed = self.compose(question, tier, choice, beginning)
        opened = await self.open(
            Opening(
                by=question.by,
                tier=tier,
                choice=choice,
                input_estimate=composed.prompt.input_estimate,
                cap_microusd=beginning.cap_microusd,
                session_id=question.session_id,
                asked=composed.asked,
                question_id=composed.question_id,
                tip_id=beginning.tip_id,
                idempotency_key=question.idempotency_key,
                request_hash=request_hash,
            ),
            lambda: self.run.ahead(
                composed.prompt,
                by=question.by,
                stream=question.stream,
                session_id=question.session_id,
            ),
        )
        return self.run(
            opened,
            composed.prompt,
            by=question.by,
            stream=question.stream,
            shorten=halved,
            left_out=composed.left_out,
        )

    def _known_provider(self, question: Question, tier: Tier) -> str | None:
        """By whose limits it may be refused before anything is read. An earlier answer is told
        again whatever the limits say."""
        if question.idempotency_key is not None:
            return None
        return question.provider or self._only_provider(tier)

    def _only_provider(self, tier: Tier) -> str | None:
        """Who answers whatever the session says; None where there is a choice."""
        only = None
        for name in self.providers:
            if tier.allows(name) and (name != COMPATIBLE or self.catalogue.has_own_server):
                if only is not None:
                    return None
                only = name
        return only

    async def _beginning(self, question: Question, tier: Tier) -> Beginning:
        session_id, user_id, provider = question.session_id, question.user_id, question.provider
        long = long_contexts(tier)
        if question.at is None:
            beginning = await self.turns.begin(session_id, user_id, provider=provider, long=long)
        else:
            beginning = await self.turns.begin_at(
                session_id, user_id, question.at, provider=provider, long=long
            )
        if beginning is None:
            raise SessionNotFound(session_id)
        return beginning
