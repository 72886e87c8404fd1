"""Builders and in-memory ports of chat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.chat.actions.running_turn import RunningTurns
from services.chat.actions.settle_turn import SettleTurn
from services.chat.actions.take_turn import Question, TakeTurn
from services.chat.domain.conversation import (
    ChatSession,
    Message,
    MessageStatus,
    Role,
    SessionId,
    Utterance,
)
from services.chat.domain.frames import Began, Ended, Frame, Text
from services.chat.domain.ports import Beginning, ChatProvider, EarlierTurn, Pricer, Quote
from services.chat.domain.turn import Hold, Orphan, Outcome, Prompt, Settlement, TurnId
from services.chat.domain.usage import Usage
from shared.errors import DependencyUnavailable, LimitReached
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS, Tier, TierChanged

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ada = UserId(UUID("00000000-0000-7000-8000-00000000ada0"))
grace = UserId(UUID("00000000-0000-7000-8000-0000000face0"))


class StoppedClock:
    """Always the same time, until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def forward(self, by: timedelta) -> None:
        self._now += by


def a_session(owner: UserId = ada, **parts: object) -> ChatSession:
    """A chat session of a user."""
    session = ChatSession(
        id=SessionId(uuid4()),
        user_id=owner,
        name="Tooltips",
        provider="openai",
        system_prompt=None,
        created_at=NOON,
        updated_at=NOON,
    )
    return replace(session, **parts)  # type: ignore[arg-type]


def a_question(session: ChatSession, content: str = "What is this?", **parts: object) -> Question:
    """A question to a session by its owner."""
    question = Question(
        session_id=session.id,
        content=content,
        tier=TIERS["free"],
        by=OnBehalfOf(session.user_id, "request-1", "token", UUID(int=9)),
    )
    return replace(question, **parts)  # type: ignore[arg-type]


class MemoryTurns:
    """The promises of the hot path's storage, kept in dictionaries."""

    def __init__(self, *sessions: ChatSession) -> None:
        self.sessions = {session.id: session for session in sessions}
        self.history: list[Utterance] = []
        self.holds: dict[TurnId, Hold] = {}
        self.settled: dict[TurnId, Settlement] = {}
        self.facts: list[Fact[UsageRecorded]] = []
        self.progress: dict[TurnId, int] = {}
        self.failing = 0  # how many settlements the database will refuse

    async def begin(self, session_id: SessionId, user_id: UserId) -> Beginning | None:
        session = self.sessions.get(session_id)
        if session is None or session.user_id != user_id:
            return None
        return Beginning(session, tuple(self.history))

    async def hold(self, hold: Hold, question: str, *, sandbox: bool) -> bool:
        taken = {(h.user_id, h.idempotency_key) for h in self.holds.values() if h.idempotency_key}
        if (hold.user_id, hold.idempotency_key) in taken or hold.session_id not in self.sessions:
            return False
        self.holds[hold.id] = hold
        return True

    async def settle(
        self, hold: Hold, settlement: Settlement, usage: Fact[UsageRecorded] | None
    ) -> bool:
        if self.failing:
            self.failing -= 1
            raise DependencyUnavailable("database")
        if hold.id in self.settled:
            return False
        self.settled[hold.id] = settlement
        if usage is not None:
            self.facts.append(usage)
        return True

    async def renew(
        self, progress: Mapping[TurnId, tuple[int, str | None]], until: datetime
    ) -> None:
        for id_, (characters, _) in progress.items():
            self.progress[id_] = characters
            self.holds[id_] = replace(self.holds[id_], lease_expires_at=until)

    async def orphans(self, now: datetime, *, most: int) -> Sequence[Orphan]:
        lost = [
            h for h in self.holds.values() if h.id not in self.settled and h.lease_expires_at < now
        ]
        return [Orphan(h, self.progress.get(h.id, 0), None, False) for h in lost[:most]]

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierTurn | None:
        for hold in self.holds.values():
            if (hold.user_id, hold.idempotency_key) == (user_id, idempotency_key):
                settlement = self.settled.get(hold.id)
                return EarlierTurn(
                    request_hash=hold.request_hash or b"",
                    settled=settlement is not None,
                    outcome=settlement.outcome.value if settlement else None,
                    answer=_answer(hold, settlement) if settlement else None,
                )
        return None


def _answer(hold: Hold, settlement: Settlement) -> Message:
    return Message(
        id=hold.answer_id,
        session_id=hold.session_id,
        role=Role.ASSISTANT,
        content=settlement.text,
        status=MessageStatus.DONE,
        created_at=NOON,
    )


@dataclass
class MemoryReservation:
    """A place in the windows."""

    limits: Sequence[LimitState] = ()
    refunds: int = 0

    async def refund(self) -> None:
        self.refunds += 1


@dataclass
class MemoryAdmission:
    """Lets a number of turns in."""

    places: int = 1_000
    told: str | None = None
    reservations: list[MemoryReservation] = field(default_factory=list)

    async def admit(
        self, user_id: UserId, tier: Tier, provider: str, *, now: datetime, reservation: UUID
    ) -> MemoryReservation:
        if self.told is not None and self.told != tier.name:
            raise TierChanged(self.told)
        if len(self.reservations) >= self.places:
            raise LimitReached("Full.", retry_after=timedelta(seconds=30))
        self.reservations.append(MemoryReservation())
        return self.reservations[-1]

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return self.told


ScriptStep = Frame | BaseException | asyncio.Event


class ScriptedProvider:
    """Answers by a script: frames, failures to raise, and events to wait for."""

    name = "openai"

    def __init__(self, *script: ScriptStep) -> None:
        self.script = script
        self.prompts: list[Prompt] = []
        self.closed = 0

    async def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        self.prompts.append(prompt)
        try:
            for step in self.script:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1


def an_answer(*words: str, usage: Usage | None = None) -> list[Frame]:
    """A whole answer of a vendor."""
    return [
        Began("chatcmpl-1", "gpt-6-luna"),
        *(Text(word) for word in words),
        Ended("stop", usage or Usage(input_tokens=10, output_tokens=len(words))),
    ]


def seven(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
    """A price that anybody can remember."""
    return Quote(7, "test")


@dataclass
class Desk:
    """Everything that taking a turn needs, with in-memory ports."""

    turns: MemoryTurns
    provider: ChatProvider
    admission: MemoryAdmission = field(default_factory=MemoryAdmission)
    running: RunningTurns = field(default_factory=RunningTurns)
    clock: StoppedClock = field(default_factory=StoppedClock)
    price: Pricer = field(default_factory=lambda: seven)

    @property
    def settle(self) -> SettleTurn:
        return SettleTurn(self.turns, self.price, self.clock, sandbox=True)

    @property
    def take_turn(self) -> TakeTurn:
        return TakeTurn(
            turns=self.turns,
            admission=self.admission,
            providers=dict.fromkeys(("openai", "gemini", "anthropic"), self.provider),
            settle=self.settle,
            running=self.running,
            catalogue=ModelCatalogue(),
            clock=self.clock,
        )

    @property
    def only_settlement(self) -> Settlement:
        (settlement,) = self.turns.settled.values()
        return settlement

    @property
    def outcome(self) -> Outcome:
        return self.only_settlement.outcome
