"""Answer a call that brings its whole conversation along: nothing of it is kept but the bill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from services.chat.actions.compose_prompt import opaque
from services.chat.actions.open_turn import Opening, OpenTurn
from services.chat.actions.run_turn import RunTurn
from services.chat.domain.content import AnswerFormat, Effort, Tool, ToolChoice, Utterance
from services.chat.domain.context_length import require_context
from services.chat.domain.errors import AnswerNotKept
from services.chat.domain.features import (
    require_capabilities,
    require_effort,
    require_features,
)
from services.chat.domain.images import check_images, check_sizes
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.model_name import choose_by_name
from services.chat.domain.ports import ChatProvider, KeptThoughts, Turns
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.stored_answer import from_stored
from services.chat.domain.turn import Hold, Outcome, Prompt, Settlement, Surface
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.pace import Gone
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """What a client of the interface over all vendors asks."""

    by: OnBehalfOf
    tier: Tier
    model: str
    utterances: Sequence[Utterance]
    system_prompt: str | None = None
    max_output_tokens: int | None = None
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: Sequence[str] = ()
    effort: Effort | None = None
    answer_format: AnswerFormat | None = None
    stream: bool = False
    idempotency_key: str | None = None
    request_hash: bytes | None = None

    @property
    def user_id(self) -> UserId:
        return self.by.user_id


@dataclass(frozen=True, slots=True)
class ReplayedCall:
    """The answer that this idempotency key was given before, as it was stored."""

    hold: Hold
    stored_answer: bytes
    sign_in_id: UUID
    limits: Sequence[LimitState] = ()

    def turn(self) -> RunningTurn:
        """A turn that is over and says it again, to this sign-in."""
        turn = RunningTurn(self.hold, self.limits, self.sign_in_id)
        for event in from_stored(self.hold, self.stored_answer):
            turn.say(event)
        turn.over()
        return turn


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """A turn without a session, by whichever vendor the model belongs to."""

    turns: Turns
    open: OpenTurn
    run: RunTurn
    providers: Mapping[str, ChatProvider]
    catalogue: ModelCatalogue
    thoughts: KeptThoughts
    image_bytes: int = 5 << 20

    async def __call__(self, call: Call, gone: Gone | None = None) -> RunningTurn | ReplayedCall:
        """The turn, running. A client that is `gone` before its turn came has asked nothing.

        Raises ModelNotFound, NotInTier, CapabilityMissing, BadAttachment, QuestionTooLong,
        SessionEnded, LimitReached, Unavailable, RequestInProgress, AnswerNotKept or
        IdempotencyKeyReused; what the vendor has to say comes with the turn's events.
        """
        return await self.open.by_current_tier(
            call.user_id, call.tier, lambda tier: self._answer(call, tier, gone)
        )

    async def _answer(
        self, call: Call, tier: Tier, gone: Gone | None
    ) -> RunningTurn | ReplayedCall:
        # Asked first: what was answered is told again, whatever the tier grants by now.
        replayed = await self._replayed(call, tier)
        if replayed is not None:
            return replayed
        choice = _capped(choose_by_name(tier, call.model, self.catalogue), call.max_output_tokens)
        prompt = _prompt(call, choice)
        self._require(prompt, tier)
        async with self.open.its_turn(call.user_id, tier, choice.provider, gone):
            return await self._begun(call, tier, prompt)

    async def _begun(self, call: Call, tier: Tier, prompt: Prompt) -> RunningTurn:
        utterances = await self.thoughts.restored(call.user_id, call.utterances)
        prompt = replace(prompt, utterances=utterances)
        opened = await self.open(
            Opening(
                by=call.by,
                tier=tier,
                choice=prompt.choice,
                input_estimate=prompt.input_estimate,
                cap_microusd=await self.turns.cap_of(call.user_id),
                surface=Surface.V1,
                idempotency_key=call.idempotency_key,
                request_hash=call.request_hash,
            ),
            lambda: self.run.ahead(prompt, by=call.by, stream=call.stream),
        )
        return self.run(
            opened,
            prompt,
            by=call.by,
            stream=call.stream,
            remember=partial(self._remember, call.user_id) if call.tools else None,
        )

    def _require(self, prompt: Prompt, tier: Tier) -> None:
        provider = prompt.choice.provider
        require_features(prompt, tier)
        require_effort(tier, provider, prompt.effort)
        require_capabilities(prompt, self.providers[provider].capabilities)
        images = [image for said in prompt.utterances for image in said.images]
        check_images(images)
        check_sizes(images, self.image_bytes)
        allowance = tier.allowance(provider)
        require_context(
            prompt,
            model_context=self.catalogue.context_of(prompt.choice.model),
            tier_context=allowance.context_tokens if allowance else 0,
        )

    async def _replayed(self, call: Call, tier: Tier) -> ReplayedCall | None:
        earlier = await self.open.earlier(
            call.user_id, call.idempotency_key, call.request_hash or b""
        )
        if earlier is None:
            return None
        if earlier.stored_answer is None:
            raise AnswerNotKept
        limits = await self.open.limits_at(call.user_id, tier, earlier.hold.provider)
        return ReplayedCall(earlier.hold, earlier.stored_answer, call.by.sign_in_id, limits)

    async def _remember(self, user_id: UserId, settlement: Settlement) -> None:
        """Before the client hears of the calls, since it may be back at once with their results."""
        if settlement.outcome is Outcome.DONE and settlement.tool_calls:
            await self.thoughts.keep(user_id, settlement.tool_calls, settlement.thoughts)


def _capped(choice: ModelChoice, wished: int | None) -> ModelChoice:
    """No more than the tier's cap, and no more than was asked for."""
    most = min(choice.max_output_tokens, wished or choice.max_output_tokens)
    return ModelChoice(choice.provider, choice.model, most)


def _prompt(call: Call, choice: ModelChoice) -> Prompt:
    return Prompt(
        choice=choice,
        system_prompt=call.system_prompt,
        utterances=call.utterances,
        end_user=opaque(call.user_id),
        tools=call.tools,
        tool_choice=call.tool_choice,
        parallel_tool_calls=call.parallel_tool_calls,
        temperature=call.temperature,
        top_p=call.top_p,
        stop=call.stop,
        effort=call.effort,
        answer_format=call.answer_format,
    )
