"""What chat's verbs need, in chat's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.content import (
    ImagePart,
    Role,
    Thought,
    ToolCall,
    ToolResult,
    Utterance,
)
from services.chat.domain.conversation import ChatSession, Message, MessageId, SessionId
from services.chat.domain.frames import Frame
from services.chat.domain.known_key import KnownKey, RevokedKey
from services.chat.domain.live import HeardTurn, LiveEvent, LiveNews, LiveTurn
from services.chat.domain.preference import Preference
from services.chat.domain.search import Found, Terms
from services.chat.domain.turn import Hold, Orphan, Prompt, Settlement, TurnId, TurnRecord
from services.chat.domain.usage import Usage
from shared.erasure import ForgottenUsers
from shared.events import Event, Fact
from shared.events.usage import UsageRecorded
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId
from shared.limit_state import LimitState
from shared.revocation import Revocation
from shared.tiers import Tier
from shared.values import dataclass


class Sessions(Protocol):
    """Chat sessions and their messages; another user's look absent."""

    async def add(self, session: ChatSession) -> None: ...
    async def get(self, session_id: SessionId, user_id: UserId) -> ChatSession | None: ...
    async def list(
        self,
        user_id: UserId,
        *,
        most: int,
        before: tuple[datetime, SessionId] | None,
        provider: str | None = None,
    ) -> Sequence[ChatSession]:
        """The one used last first."""
        ...

    async def places(
        self,
        user_id: UserId,
        *,
        most: int,
        before: tuple[datetime, SessionId] | None,
        provider: str | None,
    ) -> Sequence[tuple[datetime, SessionId]]:
        """Where each session stands in that list."""
        ...

    async def search(
        self, session_ids: Sequence[SessionId], terms: Terms, *, most: int
    ) -> Sequence[Found]:
        """Those of the sessions in which the terms stand, the one used last first."""
        ...

    async def of_user(
        self, user_id: UserId, *, after: SessionId | None, most: int
    ) -> Sequence[ChatSession]:
        """The oldest first, from the one after `after` on."""
        ...

    async def turns_of(
        self, user_id: UserId, *, after: TurnId | None, most: int
    ) -> Sequence[TurnRecord]:
        """All that a user had, in sessions and without: the oldest first."""
        ...

    async def save(self, session: ChatSession) -> None: ...
    async def delete(self, session_id: SessionId, user_id: UserId) -> bool: ...
    async def messages(
        self,
        session_id: SessionId,
        *,
        most: int,
        after: MessageId | None,
        every_branch: bool = False,
    ) -> Sequence[Message]:
        """The oldest first, of the active branch or of all."""
        ...

    async def lock(self, session_id: SessionId, user_id: UserId) -> bool:
        """Let no turn begin in it until this is over; False when there is no such session."""
        ...

    async def running_turn(self, session_id: SessionId) -> TurnId | None: ...
    async def parents(self, session_id: SessionId) -> Mapping[MessageId, MessageId | None]:
        """Each message of the session, with the one before it."""
        ...

    async def activate(self, session_id: SessionId, branch: Collection[MessageId]) -> None:
        """Make these the active ones, and no others."""
        ...

    async def image(self, attachment_id: UUID) -> bytes | None:
        """What was sent along with a message."""
        ...


class KnownKeys(Protocol):
    """What chat has been told about users' keys; keyvault alone decides about their use."""

    async def remember(self, keys: Sequence[KnownKey]) -> None: ...
    async def forget(self, keys: Sequence[RevokedKey]) -> None: ...
    async def of_user(
        self, user_id: UserId, *, organisation_id: UUID | None = None
    ) -> Sequence[KnownKey]:
        """A user's, and those of the organisation that serves them."""
        ...


class Traces(Protocol):
    """What is held of a user who is to be forgotten."""

    async def erase(self, user_id: UserId, *, most: int) -> int:
        """Delete some of it, but for running turns; answers how many rows, known keys aside."""
        ...

    async def running(self, user_id: UserId) -> Collection[str]:
        """The providers that the user's running turns ask."""
        ...


class Revocations(Protocol):
    """How a worker, which hears of a revoked key, tells the replicas, which use it."""

    async def announce(self, revocations: Sequence[Revocation]) -> None: ...
    def heard(self) -> AsyncIterator[Revocation]: ...


class Preferences(Protocol):
    """What users have chosen for all their turns."""

    async def of_user(self, user_id: UserId) -> Preference: ...
    async def save(
        self, user_id: UserId, preference: Preference, only: Collection[str] | None = None
    ) -> Preference:
        """What is kept then. `only`: the fields that are chosen; the others stay as they are."""
        ...


class UnitOfWork(Protocol):
    """One transaction."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def known_keys(self) -> KnownKeys: ...

    @property
    def traces(self) -> Traces: ...
    @property
    def preferences(self) -> Preferences: ...
    @property
    def forgotten(self) -> ForgottenUsers: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...


NewUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is written of a question: its text, the tools' results, and what was sent along. It
    follows `parent_id`, the message before it on its branch, which has to be the last one of the
    active branch. `branches`: it begins a branch of its own after it. `answers_again`: it is
    there already, so that none is written, and gets another answer. `session_name`: what a session
    without a name is called from now on."""

    content: str
    tool_results: Sequence[ToolResult] = ()
    images: Sequence[ImagePart] = ()
    parent_id: MessageId | None = None
    answers_again: bool = False
    branches: bool = False
    session_name: str | None = None


@dataclass(frozen=True, slots=True)
class AskedBefore:
    """A question that is asked again, or in other words."""

    id: MessageId
    role: Role
    content: str
    tool_results: Sequence[ToolResult]
    images: Sequence[ImagePart]
    parent_id: MessageId | None


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a turn starts from: its session, what was said on its branch, oldest first, and the
    user's own cap on what they spend in a month. `asked_before`: the question at which it begins,
    when that is not a new one. `tip_id`: the last message of the branch that is shown."""

    session: ChatSession
    history: Sequence[Utterance]
    cap_microusd: int | None = None
    asked_before: AskedBefore | None = None
    tip_id: MessageId | None = None


@dataclass(frozen=True, slots=True)
class EarlierTurn:
    """The turn that an idempotency key was first used for; `answer` is None while it runs, and for
    a turn without a session, which has `stored_answer` instead."""

    request_hash: bytes
    settled: bool
    outcome: str | None
    answer: Message | None
    hold: Hold
    stored_answer: bytes | None = None
    fallback_from: str | None = None


class Turns(Protocol):
    """The hot path's storage: each call is one statement in a transaction of its own."""

    async def begin(
        self,
        session_id: SessionId,
        user_id: UserId,
        *,
        provider: str | None = None,
        long: Mapping[str, int] | None = None,
    ) -> Beginning | None:
        """The session with its history, or None when there is no such session of this user.
        `provider`: who is asked, if it is not the session's. `long`: who gets to see more of what
        was said than others, with how many tokens of it."""
        ...

    async def begin_at(
        self,
        session_id: SessionId,
        user_id: UserId,
        message_id: MessageId,
        *,
        provider: str | None = None,
        long: Mapping[str, int] | None = None,
    ) -> Beginning | None:
        """The same at an earlier question, named by itself or by an answer to it; without one when
        there is no such message in this session."""
        ...

    async def hold(self, hold: Hold, question: Asked | None, *, sandbox: bool) -> bool:
        """Write the question, if there is a session to keep it, and the hold; False when the
        idempotency key is taken. Raises SessionNotFound when the session is gone, TurnRunning
        while another turn of it runs, and BranchMoved when it was changed since it was read."""
        ...

    async def redirect(self, turn_id: TurnId, *, provider: str, model: str) -> None:
        """Another provider is asked from now on."""
        ...

    async def settle(
        self, hold: Hold, settlement: Settlement, facts: Sequence[Fact[UsageRecorded]]
    ) -> bool:
        """Close the hold with its answer and the usage of its paid calls; False when it was closed
        before."""
        ...

    async def answer_of(self, hold: Hold) -> Message | None:
        """What is kept of its answer, if it was closed and there is a session to keep that."""
        ...

    async def renew(
        self, progress: Mapping[TurnId, tuple[int, str | None]], until: datetime
    ) -> None:
        """Keep running turns' leases, noting their output so far and the vendor's id."""
        ...

    async def orphans(self, now: datetime, *, doubted_by: datetime, most: int) -> Sequence[Orphan]:
        """Those whose lease had run out when somebody looked, at that time or before, and has not
        been renewed since; the others whose lease has run out are doubted from now on."""
        ...

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierTurn | None: ...

    async def forget_answers(self, before: datetime, *, most: int) -> int:
        """Free the idempotency keys of turns that began before, with what was stored to answer them
        again; tells how many."""
        ...

    async def cap_of(self, user_id: UserId) -> int | None:
        """The user's own cap on what they spend in a month, in micro-dollars; for turns without a
        session, since `begin` tells it too."""
        ...

    async def spent_since(self, user_id: UserId, since: datetime) -> int:
        """What the user's turns have cost since then, in micro-dollars."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one of a session's turns stands; without a turn, the session has none yet."""

    turn: EarlierTurn | None
    settled_at: datetime | None = None


class Standings(Protocol):
    """Looks turns up for those who follow them."""

    async def standing(
        self, session_id: SessionId, user_id: UserId, turn_id: TurnId | None = None
    ) -> Standing | None:
        """Where the session's latest turn stands, or the named one; None when there is no such
        session of this user."""
        ...

    async def outcomes(self, turn_ids: Collection[TurnId]) -> Sequence[EarlierTurn]:
        """Those of the turns that are settled."""
        ...


class TurnLog(Protocol):
    """What running turns have said, for those who follow from other replicas. It may be lost."""

    def keep(self, turn: LiveTurn) -> None:
        """Write down what it says, a little later, from its beginning to its end."""
        ...

    def unwritten(self, turn_id: TurnId) -> LiveTurn | None:
        """A turn of this replica that is not written down to its end yet."""
        ...

    async def follow(self, turn_id: TurnId, session_id: SessionId | None) -> HeardTurn:
        """The turn as another replica writes it down, for as long as the answer is held on to."""
        ...

    async def whole(self, turn_id: TurnId) -> Sequence[LiveEvent]:
        """What was written down without a gap from its beginning on; nothing while it can't be
        read."""
        ...

    def silent(self, seconds: float) -> Sequence[HeardTurn]:
        """Followed turns of which nothing was heard for so long."""
        ...


class LiveChannel(Protocol):
    """What the replicas of chat tell each other at once: heard now or never."""

    async def stop(self, turn_id: TurnId) -> None:
        """Raises Unavailable."""
        ...

    async def emit(self, session_id: SessionId, message: bytes) -> None:
        """To every device in the session's room. Raises Unavailable."""
        ...

    async def enter(self, session_id: SessionId) -> None:
        """Hear of this session from now on."""
        ...

    async def leave(self, session_id: SessionId) -> None: ...
    def heard(self) -> AsyncIterator[LiveNews]: ...


class ChatProvider(Protocol):
    """One vendor's wire. Translates, and nothing more."""

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...

    def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        """The vendor's answer as frames: Began, then what it says, then Ended.

        Raises VendorRejectedRequest at once, before anybody is asked, for what the vendor would
        not take; among the frames VendorRefused before the first one when the vendor declined,
        VendorFailed when it broke off, and what the egress says about the user's key.
        """
        ...

    def ahead(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AnswerAhead | None:
        """What `answer` does, ready to begin before anything is written down of it: then the key is
        asked for, and the vendor gets nothing to work on. None where that can't be.

        Raises VendorRefused, for what it would not take.
        """
        ...


class AnswerAhead(Protocol):
    """A call to a vendor that begins before anybody can work on it."""

    def go(self) -> bool:
        """Begin it; False where that can't be any more. Once, and before its frames."""
        ...

    def frames(self) -> AsyncIterator[Frame]:
        """Go on with it: the answer, as of `ChatProvider.answer`."""
        ...

    def leave(self) -> None:
        """Break it off, unless somebody went on with it."""
        ...


class KeptThoughts(Protocol):
    """What a vendor wants back with a tool's result, for clients whose wire has no place for it. It
    may be lost."""

    async def keep(
        self, user_id: UserId, calls: Sequence[ToolCall], thoughts: Sequence[Thought]
    ) -> None: ...

    async def restored(
        self, user_id: UserId, utterances: Sequence[Utterance]
    ) -> Sequence[Utterance]:
        """The conversation, each call with what belongs to it as far as it is still known."""
        ...


class Reservation(Protocol):
    """An admitted request's place in its windows. The first of `refund` and `settle` counts."""

    @property
    def limits(self) -> Sequence[LimitState]: ...

    async def refund(self, *, cost_microusd: int | None = None) -> None:
        """Give everything back: nothing reached the user. What it cost all the same stays counted
        where money is."""
        ...

    async def settle(self, *, tokens: int, cost_microusd: int | None) -> None:
        """Keep what was used, give the rest back."""
        ...

    async def owes(self, *, cost_microusd: int) -> None:
        """Count so much more where money is, of what was given back before its cost was known; the
        first time."""
        ...


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """Who wants to use what, and about how much of it."""

    user_id: UserId
    tier: Tier
    provider: str
    now: datetime
    reservation: UUID
    tokens: int  # prompt plus expected output
    cost_microusd: int | None  # expected; None is unknown
    cap_microusd: int | None  # the user's own cap for a month; None is no cap
    is_new: bool = True  # and not a turn that has begun and asks elsewhere


class Admission(Protocol):
    """Lets a turn in, or raises LimitReached or Unavailable."""

    def tier_changed(self, user_id: UserId) -> None:
        """The user may have another tier now."""
        ...

    async def admit(
        self, request: AdmissionRequest, *, spent: Callable[[], Awaitable[int]]
    ) -> Reservation:
        """Raises TierChanged when the user has another tier than the one given. `spent` tells this
        month's micro-dollars; it is asked only when they were forgotten."""
        ...

    def refuse_if_full(self, user_id: UserId, tier: Tier, provider: str, now: datetime) -> None:
        """Raises LimitReached where it is known beforehand, without asking anybody, that `admit`
        would for whatever is asked."""
        ...

    async def renew(self, reservations: Collection[tuple[UserId, UUID]]) -> None:
        """Keep the places of running turns; silent while the counters are out of reach."""
        ...

    def places_of(self, hold: Hold) -> Sequence[Reservation]:
        """Where a turn of another process may have its place: where it was let in, and at the
        provider that it was moved to."""
        ...

    async def tell_the_untold(self) -> None:
        """What the counters could not be told while they were away."""
        ...

    async def states(
        self,
        user_id: UserId,
        tier: Tier,
        *,
        now: datetime,
        cap_microusd: int | None,
        provider: str | None = None,
    ) -> Sequence[LimitState]:
        """Every window of the user, or those that a turn at this provider is counted in. Raises
        Unavailable."""
        ...

    async def count_free_call(self, user_id: UserId, tier: Tier, *, now: datetime) -> None:
        """One of the calls that cost nothing, which are limited all the same. Raises TierChanged,
        LimitReached or Unavailable."""
        ...

    async def tier_told_of(self, user_id: UserId) -> str | None:
        """The tier that the user was given lately; None when it is as their token says."""
        ...


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call costs, and by which price."""

    cost_microusd: int
    price_version: str


class Pricer(Protocol):
    """Prices usage; None when the price is unknown, never zero."""

    def __call__(self, provider: str, model: str, usage: Usage, at: datetime) -> Quote | None: ...
