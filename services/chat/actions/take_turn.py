"""The hot path: admit, hold, call the vendor, settle."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

import structlog

from services.chat.actions.running_turn import Answered, Broken, Delta, RunningTurn, RunningTurns
from services.chat.actions.settle_turn import SettleTurn
from services.chat.domain.conversation import (
    Message,
    MessageId,
    Role,
    SessionId,
    Utterance,
    fitting_history,
)
from services.chat.domain.errors import ProviderNotSpoken, SessionNotFound
from services.chat.domain.frames import Began, Ended, Text
from services.chat.domain.model_choice import choose_model
from services.chat.domain.ports import Admission, ChatProvider, Reservation, Turns
from services.chat.domain.turn import Hold, Outcome, Prompt, Settlement, TurnId
from services.chat.domain.usage import Usage, estimated_input, estimated_usage
from shared.clock import Clock
from shared.errors import DependencyUnavailable, ExpectedFailure, NotInTier
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId, uuid7
from shared.model_catalogue import ModelCatalogue
from shared.tiers import Tier, TierChanged
from shared.vendors.failures import VendorFailed

log = structlog.get_logger(__name__)

_SETTLE_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks, and how they want the answer."""

    session_id: SessionId
    content: str
    tier: Tier
    by: OnBehalfOf
    provider: str | None = None
    model: str | None = None
    stream: bool = False
    idempotency_key: str | None = None

    @property
    def user_id(self) -> UserId:
        return self.by.user_id

    @property
    def request_hash(self) -> bytes:
        """What makes two requests the same request; how the answer travels is no part of it."""
        parts = (str(self.session_id), self.content, self.provider or "", self.model or "")
        return hashlib.sha256("\x1f".join(parts).encode()).digest()


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer that this idempotency key was given before."""

    message: Message


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of patience and memory."""

    hold_lease: timedelta = timedelta(seconds=30)
    history_characters: int = 24_000


@dataclass(frozen=True, slots=True)
class TakeTurn:
    """Ask a question and start its answer."""

    turns: Turns
    admission: Admission
    providers: Mapping[str, ChatProvider]
    settle: SettleTurn
    running: RunningTurns
    catalogue: ModelCatalogue
    clock: Clock
    policy: Policy = field(default_factory=Policy)

    async def __call__(self, question: Question) -> RunningTurn | Replayed:
        """The turn, running: admitted, held, and with the vendor being asked.

        Raises SessionNotFound, SessionEnded, NotInTier, LimitReached, Unavailable,
        RequestInProgress or IdempotencyKeyReused; what the vendor has to say comes with the turn's
        events.
        """
        try:
            return await self._take(question)
        except TierChanged as changed:
            return await self._take(replace(question, tier=changed.tier))
        except NotInTier:
            # Refused by what the token claims; the user may have upgraded a moment ago.
            told = await self.admission.tier_told_of(question.user_id)
            if told is None or told == question.tier.name:
                raise
            return await self._take(replace(question, tier=TierChanged(told).tier))

    async def _take(self, question: Question) -> RunningTurn | Replayed:
        beginning = await self.turns.begin(question.session_id, question.user_id)
        if beginning is None:
            raise SessionNotFound(question.session_id)
        session = beginning.session
        provider = question.provider or session.provider
        choice = choose_model(question.tier, provider, question.model, self.catalogue)
        if choice.provider not in self.providers:
            raise ProviderNotSpoken(choice.provider)
        replayed = await self._replayed(question)
        if replayed is not None:
            return replayed
        prompt = Prompt(
            choice=choice,
            system_prompt=session.system_prompt,
            utterances=[
                *fitting_history(beginning.history, self.policy.history_characters),
                Utterance(Role.USER, question.content),
            ],
            end_user=_opaque(question.user_id),
        )
        hold = self._hold(question, prompt)
        reservation = await self.admission.admit(
            question.user_id,
            question.tier,
            provider,
            now=hold.created_at,
            reservation=hold.id,
        )
        await self._write(hold, question, reservation)
        return self._start(hold, prompt, question, reservation)

    async def _replayed(self, question: Question) -> Replayed | None:
        if question.idempotency_key is None:
            return None
        earlier = await self.turns.earlier(question.user_id, question.idempotency_key)
        if earlier is None:
            return None
        if earlier.request_hash != question.request_hash:
            raise IdempotencyKeyReused
        if not earlier.settled or earlier.answer is None:
            raise RequestInProgress
        return Replayed(earlier.answer)

    def _hold(self, question: Question, prompt: Prompt) -> Hold:
        now = self.clock.now()
        return Hold(
            id=TurnId(uuid7()),
            user_id=question.user_id,
            session_id=question.session_id,
            question_id=MessageId(uuid7()),
            answer_id=MessageId(uuid7()),
            usage_event_id=EventId(uuid7()),
            request_id=question.by.request_id,
            tier=question.tier.name,
            provider=prompt.choice.provider,
            model=prompt.choice.model,
            input_estimate=estimated_input(prompt.characters, prompt.messages),
            created_at=now,
            lease_expires_at=now + self.policy.hold_lease,
            idempotency_key=question.idempotency_key,
            request_hash=question.request_hash if question.idempotency_key else None,
        )

    async def _write(self, hold: Hold, question: Question, reservation: Reservation) -> None:
        try:
            held = await self.turns.hold(hold, question.content, sandbox=self.settle.sandbox)
        except BaseException:
            await asyncio.shield(reservation.refund())
            raise
        if not held:
            await reservation.refund()
            if question.idempotency_key is None:
                raise SessionNotFound(question.session_id)
            # Another request with this key came first, while we looked.
            raise RequestInProgress

    def _start(
        self, hold: Hold, prompt: Prompt, question: Question, reservation: Reservation
    ) -> RunningTurn:
        turn = RunningTurn(hold, reservation.limits, question.by.sign_in_id, question.by.served_by)
        self.running.start(turn, self._run(turn, prompt, question, reservation))
        return turn

    async def _run(
        self, turn: RunningTurn, prompt: Prompt, question: Question, reservation: Reservation
    ) -> None:
        reading = _Reading(turn, self.providers[prompt.choice.provider], prompt)
        started = time.perf_counter()
        failure = await reading.run(question.by, stream=question.stream)
        elapsed_ms = round((time.perf_counter() - started) * 1000)
        settlement = reading.settlement(failure, elapsed_ms)
        if failure is not None:
            await reservation.refund()
        await self._conclude(turn, settlement, reading.finish_reason, failure)

    async def _conclude(
        self,
        turn: RunningTurn,
        settlement: Settlement,
        finish_reason: str,
        failure: ExpectedFailure | None,
    ) -> None:
        settling = asyncio.ensure_future(self.settle(turn.hold, settlement))
        try:
            message = await asyncio.wait_for(
                asyncio.shield(settling), timeout=_SETTLE_PATIENCE_SECONDS
            )
        except TimeoutError:
            # The client need not wait for our database; the settlement goes on without it.
            turn.say(Broken(DependencyUnavailable("database"), None))
            await settling
            return
        if failure is not None:
            turn.say(Broken(failure, message if settlement.text else None))
        else:
            turn.say(Answered(message, finish_reason))


class _Reading:
    """Reads one answer of a vendor into a running turn."""

    def __init__(self, turn: RunningTurn, provider: ChatProvider, prompt: Prompt) -> None:
        self._turn = turn
        self._provider = provider
        self._prompt = prompt
        self._parts: list[str] = []
        self._ended: Ended | None = None
        self._model = prompt.choice.model

    @property
    def finish_reason(self) -> str:
        if self._ended is not None:
            return self._ended.reason
        return "stop" if self._turn.ended_as is None else self._turn.ended_as.value

    async def run(self, by: OnBehalfOf, *, stream: bool) -> ExpectedFailure | None:
        """Read to the end, or until the turn is ended; answers why it failed, if it did."""
        reader = asyncio.create_task(self._read(by, stream=stream))
        self._turn.read_by(reader)
        try:
            await reader
        except asyncio.CancelledError:
            if self._turn.ended_as is None:
                raise
        except ExpectedFailure as failure:
            return failure
        except Exception:
            # A bug of ours after the vendor was asked: it may charge, so the turn is settled.
            log.exception("reading_failed", provider=self._prompt.choice.provider)
            return VendorFailed(self._prompt.choice.provider)
        return None

    async def _read(self, by: OnBehalfOf, *, stream: bool) -> None:
        turn, parts = self._turn, self._parts
        frames = self._provider.answer(self._prompt, by=by, stream=stream)
        async with aclosing(frames) as frames:  # type: ignore[type-var]
            async for frame in frames:
                if isinstance(frame, Text):
                    parts.append(frame.text)
                    turn.output_characters += len(frame.text)
                    turn.say(Delta(frame.text))
                elif isinstance(frame, Began):
                    turn.provider_request_id = frame.provider_request_id
                    self._model = frame.model or self._model
                else:
                    self._ended = frame
        if self._ended is None:
            raise VendorFailed(self._prompt.choice.provider)

    def settlement(self, failure: ExpectedFailure | None, elapsed_ms: int) -> Settlement:
        """The terminal record of what was read."""
        text = "".join(self._parts)
        return Settlement(
            outcome=self._outcome(failure, text),
            text=text,
            usage=self._usage(text),
            model=self._model,
            provider_request_id=self._turn.provider_request_id,
            processing_time_ms=elapsed_ms,
        )

    def _outcome(self, failure: ExpectedFailure | None, text: str) -> Outcome:
        if failure is not None:
            # Only a vendor that may have worked can charge; a refusal, ours or theirs, is free.
            worked = text or (isinstance(failure, VendorFailed) and failure.billed)
            return Outcome.PROVIDER_FAILED if worked else Outcome.REFUSED
        return self._turn.ended_as or Outcome.DONE

    def _usage(self, text: str) -> Usage:
        if self._ended is not None and self._ended.usage is not None:
            return self._ended.usage
        estimate = estimated_input(self._prompt.characters, self._prompt.messages)
        return estimated_usage(estimate, len(text))


def _opaque(user_id: UUID) -> str:
    return hashlib.sha256(b"companion.end-user" + user_id.bytes).hexdigest()[:32]
