"""Builders and in-memory ports of chat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from services.chat.actions._ask_vendors import AskVendors
from services.chat.actions._read_answer import Drains
from services.chat.actions.compose_prompt import ComposePrompt
from services.chat.actions.open_turn import OpenTurn
from services.chat.actions.run_turn import RunTurn
from services.chat.actions.settle_turn import SettleTurn
from services.chat.actions.take_turn import TakeTurn
from services.chat.actions.withdraw_hold import WithdrawHold
from services.chat.domain.breaker import Breakers
from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import Role, Utterance
from services.chat.domain.conversation import (
    ChatSession,
    Message,
    MessageId,
    SessionId,
)
from services.chat.domain.errors import SessionNotFound, TurnRunning
from services.chat.domain.frames import Began, Ended, Frame, Text
from services.chat.domain.known_key import KnownKey
from services.chat.domain.ports import (
    AdmissionRequest,
    AnswerAhead,
    Asked,
    AskedBefore,
    Beginning,
    ChatProvider,
    EarlierTurn,
    Pricer,
    Quote,
)
from services.chat.domain.preference import Preference
from services.chat.domain.question import Question
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Hold, Orphan, Outcome, Prompt, Settlement, TurnId
from services.chat.domain.usage import Usage
from shared.errors import DependencyUnavailable, LimitReached
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.pace import Paces
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS, Tier, TierChanged
from tests.support.clocks import NOON as NOON
from tests.support.clocks import StoppedClock as StoppedClock

ada = UserId(UUID("00000000-0000-7000-8000-00000000ada0"))
grace = UserId(UUID("00000000-0000-7000-8000-0000000face0"))


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
        self.asked: list[Asked] = []
        self.asked_before: AskedBefore | None = None
        self.cap: int | None = None
        self.doubted: dict[TurnId, datetime] = {}
        self.failing = 0  # how many settlements the database will refuse

    async def begin(
        self,
        session_id: SessionId,
        user_id: UserId,
        *,
        provider: str | None = None,
        long: Mapping[str, int] | None = None,
    ) -> Beginning | None:
        session = self.sessions.get(session_id)
        if session is None or session.user_id != user_id:
            return None
        return Beginning(session, tuple(self.history), self.cap)

    async def begin_at(
        self,
        session_id: SessionId,
        user_id: UserId,
        message_id: MessageId,
        *,
        provider: str | None = None,
        long: Mapping[str, int] | None = None,
    ) -> Beginning | None:
        beginning = await self.begin(session_id, user_id)
        return beginning and replace(beginning, asked_before=self.asked_before)

    async def hold(self, hold: Hold, question: Asked | None, *, sandbox: bool) -> bool:
        taken = {(h.user_id, h.idempotency_key) for h in self.holds.values() if h.idempotency_key}
        if (hold.user_id, hold.idempotency_key) in taken:
            return False
        if hold.session_id is not None:
            self._check_session(hold.session_id)
        self.holds[hold.id] = hold
        if question is not None:
            self.asked.append(question)
        return True

    def _check_session(self, session_id: SessionId) -> None:
        if session_id not in self.sessions:
            raise SessionNotFound(session_id)
        running = [h for id_, h in self.holds.items() if id_ not in self.settled]
        if session_id in {h.session_id for h in running}:
            raise TurnRunning(session_id)

    async def redirect(self, turn_id: TurnId, *, provider: str, model: str) -> None:
        self.holds[turn_id] = replace(self.holds[turn_id], provider=provider, model=model)

    async def settle(
        self, hold: Hold, settlement: Settlement, facts: Sequence[Fact[UsageRecorded]]
    ) -> bool:
        if self.failing:
            self.failing -= 1
            raise DependencyUnavailable("database")
        await asyncio.sleep(0)
        if hold.id in self.settled:
            return False
        self.settled[hold.id] = settlement
        is_kept = hold.session_id is not None or settlement.stored_answer is not None
        if not (is_kept and settlement.can_be_repeated):
            self.holds[hold.id] = replace(self.holds[hold.id], idempotency_key=None)
        self.facts.extend(facts)
        return True

    async def answer_of(self, hold: Hold) -> Message | None:
        settlement = self.settled.get(hold.id)
        return _answer(hold, settlement) if settlement and hold.session_id else None

    async def renew(
        self, progress: Mapping[TurnId, tuple[int, str | None]], until: datetime
    ) -> None:
        for id_, (characters, _) in progress.items():
            self.progress[id_] = characters
            self.doubted.pop(id_, None)
            self.holds[id_] = replace(self.holds[id_], lease_expires_at=until)

    async def orphans(self, now: datetime, *, doubted_by: datetime, most: int) -> Sequence[Orphan]:
        expired = [
            h for h in self.holds.values() if h.id not in self.settled and h.lease_expires_at < now
        ]
        lost = [h for h in expired if h.lease_expires_at <= self._doubted(h, now) <= doubted_by]
        return [Orphan(h, self.progress.get(h.id, 0), None, False) for h in lost[:most]]

    def _doubted(self, hold: Hold, now: datetime) -> datetime:
        doubted = self.doubted.get(hold.id)
        if doubted is None or doubted < hold.lease_expires_at:
            doubted = self.doubted[hold.id] = now
        return doubted

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierTurn | None:
        for hold in self.holds.values():
            if (hold.user_id, hold.idempotency_key) == (user_id, idempotency_key):
                settlement = self.settled.get(hold.id)
                return EarlierTurn(
                    request_hash=hold.request_hash or b"",
                    settled=settlement is not None,
                    fallback_from=settlement.fallback_from if settlement else None,
                    outcome=settlement.outcome.value if settlement else None,
                    answer=_answer(hold, settlement) if settlement and hold.session_id else None,
                    hold=hold,
                    stored_answer=settlement.stored_answer if settlement else None,
                )
        return None

    async def cap_of(self, user_id: UserId) -> int | None:
        return self.cap

    async def spent_since(self, user_id: UserId, since: datetime) -> int:
        return sum(s.whole_cost_microusd or 0 for s in self.settled.values())

    async def forget_answers(self, before: datetime, *, most: int) -> int:
        old = [h for h in self.holds.values() if h.idempotency_key and h.created_at < before]
        for hold in old[:most]:
            self.holds[hold.id] = replace(hold, idempotency_key=None)
        return len(old[:most])


def _answer(hold: Hold, settlement: Settlement) -> Message:
    return Message(
        id=hold.answer_id,
        session_id=hold.session_id or SessionId(UUID(int=0)),
        role=Role.ASSISTANT,
        content=settlement.text,
        status=settlement.outcome.answer_status,
        created_at=NOON,
        tool_calls=settlement.tool_calls,
        finish_reason=settlement.finish_reason,
    )


@dataclass
class MemoryReservation:
    """A place in the windows."""

    limits: Sequence[LimitState] = ()
    refunds: int = 0
    settled: list[tuple[int, int | None]] = field(default_factory=list)
    spent: int | None = None  # of what was given back
    owed: list[int] = field(default_factory=list)

    @property
    def times_given_back(self) -> int:
        return self.refunds + len(self.settled)

    async def refund(self, *, cost_microusd: int | None = None) -> None:
        await asyncio.sleep(0)
        if not self.times_given_back:
            self.refunds += 1
            self.spent = cost_microusd

    async def settle(self, *, tokens: int, cost_microusd: int | None) -> None:
        await asyncio.sleep(0)
        if not self.times_given_back:
            self.settled.append((tokens, cost_microusd))

    async def owes(self, *, cost_microusd: int) -> None:
        await asyncio.sleep(0)
        assert self.times_given_back
        self.owed.append(cost_microusd)


@dataclass
class MemoryAdmission:
    """Lets a number of turns in."""

    places: int = 1_000
    told: str | None = None
    full: Collection[str] = ()  # providers whose windows are full
    reservations: list[MemoryReservation] = field(default_factory=list)
    requests: list[AdmissionRequest] = field(default_factory=list)

    async def admit(
        self, request: AdmissionRequest, *, spent: Callable[[], Awaitable[int]]
    ) -> MemoryReservation:
        if self.told is not None and self.told != request.tier.told_as:
            raise TierChanged(self.told)
        if len(self.reservations) >= self.places or request.provider in self.full:
            raise LimitReached("Full.", retry_after=timedelta(seconds=30))
        self.requests.append(request)
        self.reservations.append(reservation := MemoryReservation())
        await asyncio.sleep(0)  # whoever is cancelled here has a place all the same
        return reservation

    def refuse_if_full(self, user_id: UserId, tier: Tier, provider: str, now: datetime) -> None:
        """Nothing is known beforehand."""

    def tier_changed(self, user_id: UserId) -> None:
        """Nothing is known beforehand."""

    async def renew(self, reservations: Collection[tuple[UserId, UUID]]) -> None:
        """Nothing expires here."""

    def places_of(self, hold: Hold) -> Sequence[MemoryReservation]:
        ids = {hold.id, hold.place_at(hold.provider)}
        made = zip(self.requests, self.reservations, strict=True)
        return [place for request, place in made if request.reservation in ids]

    async def tell_the_untold(self) -> None:
        """There is nothing."""

    async def states(
        self,
        user_id: UserId,
        tier: Tier,
        *,
        now: datetime,
        cap_microusd: int | None,
        provider: str | None = None,
    ) -> Sequence[LimitState]:
        return ()

    async def count_free_call(self, user_id: UserId, tier: Tier, *, now: datetime) -> None:
        if self.told is not None and self.told != tier.told_as:
            raise TierChanged(self.told)

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return self.told


class MemoryPreferences:
    """What users have chosen."""

    def __init__(self, *fallback: str) -> None:
        self.fallback = fallback

    async def of_user(self, user_id: UserId) -> Preference:
        return Preference(self.fallback)


class MemoryKnownKeys:
    """Keys of which chat was told."""

    def __init__(self, *keys: KnownKey) -> None:
        self.keys = list(keys)
        self.looks = 0

    async def of_user(
        self, user_id: UserId, *, organisation_id: UUID | None = None
    ) -> Sequence[KnownKey]:
        self.looks += 1
        return [key for key in self.keys if key.user_id in (user_id, organisation_id)]


@dataclass
class MemoryWork:
    """A transaction over what users chose and which keys they have."""

    preferences: MemoryPreferences = field(default_factory=MemoryPreferences)
    known_keys: MemoryKnownKeys = field(default_factory=MemoryKnownKeys)
    is_away: bool = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryWork]:
        await asyncio.sleep(0)
        if self.is_away:
            raise DependencyUnavailable("database")
        yield self


def falling_back(*providers: str, owner: UUID = ada) -> MemoryWork:
    """A user who wants these providers to answer when another can't, and has a key for each."""
    keys = [KnownKey(UserId(owner), name, 1, "valid") for name in providers]
    return MemoryWork(MemoryPreferences(*providers), MemoryKnownKeys(*keys))


@dataclass
class MemoryTime:
    """A clock that only sleeping moves."""

    now: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.now += seconds


ScriptStep = Frame | BaseException | asyncio.Event


class ScriptedProvider:
    """Answers by a script: frames, failures to raise, and events to wait for. With several scripts
    each attempt has its own, and the last one those after it."""

    capabilities = Capabilities()

    def __init__(
        self,
        *script: ScriptStep,
        then: Sequence[Sequence[ScriptStep]] = (),
        name: str = "openai",
    ) -> None:
        self.name = name
        self.scripts = [script, *then]
        self.prompts: list[Prompt] = []
        self.closed = 0

    async def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        script = self.scripts[min(len(self.prompts), len(self.scripts) - 1)]
        self.prompts.append(prompt)
        try:
            for step in script:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1

    def ahead(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AnswerAhead | None:
        return None


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
    others: Mapping[str, ChatProvider] = field(default_factory=dict)
    work: MemoryWork = field(default_factory=MemoryWork)
    time: MemoryTime = field(default_factory=MemoryTime)
    breakers: Breakers = field(init=False)
    drains: Drains = field(default_factory=Drains)
    longest: timedelta = timedelta(minutes=10)
    paces: Paces = field(default_factory=Paces)

    def __post_init__(self) -> None:
        self.breakers = Breakers(monotonic=self.time.monotonic)

    @property
    def settle(self) -> SettleTurn:
        return SettleTurn(self.turns, self.price, self.clock, sandbox=True)

    @property
    def take_turn(self) -> TakeTurn:
        return TakeTurn(
            turns=self.turns,
            open=self.open,
            run=self.run,
            providers=self.providers,
            catalogue=ModelCatalogue(),
            compose=ComposePrompt(self.providers, ModelCatalogue(), history_tokens=24_000),
        )

    @property
    def providers(self) -> Mapping[str, ChatProvider]:
        all_three = dict.fromkeys(("openai", "gemini", "anthropic"), self.provider)
        return {**all_three, **self.others}

    @property
    def ask(self) -> AskVendors:
        return AskVendors(
            self.providers,
            self.open,
            self.work.begin,  # type: ignore[arg-type]
            ModelCatalogue(),
            breakers=self.breakers,
            sleep=self.time.sleep,
            monotonic=self.time.monotonic,
            luck=lambda: 0.0,
        )

    @property
    def run(self) -> RunTurn:
        return RunTurn(self.ask, self.settle, self.running, self.drains, self.longest)

    @property
    def open(self) -> OpenTurn:
        return OpenTurn(
            turns=self.turns,
            admission=self.admission,
            withdraw=WithdrawHold(self.turns),
            price=self.price,
            clock=self.clock,
            lease=timedelta(seconds=30),
            sandbox=True,
            paces=self.paces,
        )

    @property
    def only_settlement(self) -> Settlement:
        (settlement,) = self.turns.settled.values()
        return settlement

    @property
    def outcome(self) -> Outcome:
        return self.only_settlement.outcome
