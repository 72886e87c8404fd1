"""What chat's verbs need, in chat's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.chat.domain.conversation import ChatSession, Message, MessageId, SessionId, Utterance
from services.chat.domain.frames import Frame
from services.chat.domain.known_key import KnownKey, RevokedKey
from services.chat.domain.turn import Hold, Orphan, Prompt, Settlement, TurnId
from services.chat.domain.usage import Usage
from shared.erasure import ForgottenUsers
from shared.events import Event, Fact
from shared.events.usage import UsageRecorded
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId
from shared.limit_state import LimitState
from shared.revocation import Revocation
from shared.tiers import Tier


class Sessions(Protocol):
    """Chat sessions and their messages; another user's look absent."""

    async def add(self, session: ChatSession) -> None: ...
    async def get(self, session_id: SessionId, user_id: UserId) -> ChatSession | None: ...
    async def list(
        self, user_id: UserId, *, most: int, before: tuple[datetime, SessionId] | None
    ) -> Sequence[ChatSession]: ...
    async def of_user(
        self, user_id: UserId, *, after: SessionId | None, most: int
    ) -> Sequence[ChatSession]:
        """The oldest first, from the one after `after` on."""
        ...

    async def save(self, session: ChatSession) -> None: ...
    async def delete(self, session_id: SessionId, user_id: UserId) -> bool: ...
    async def messages(
        self, session_id: SessionId, *, most: int, after: MessageId | None
    ) -> Sequence[Message]: ...


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


class UnitOfWork(Protocol):
    """One transaction."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def known_keys(self) -> KnownKeys: ...

    @property
    def traces(self) -> Traces: ...
    @property
    def forgotten(self) -> ForgottenUsers: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...

    async def unseen(self, ids: Sequence[EventId]) -> set[EventId]: ...


NewUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a turn starts from: its session and what was said in it, oldest first."""

    session: ChatSession
    history: Sequence[Utterance]


@dataclass(frozen=True, slots=True)
class EarlierTurn:
    """The turn that an idempotency key was first used for; `answer` is None while it runs."""

    request_hash: bytes
    settled: bool
    outcome: str | None
    answer: Message | None


class Turns(Protocol):
    """The hot path's storage: each call is one statement in a transaction of its own."""

    async def begin(self, session_id: SessionId, user_id: UserId) -> Beginning | None:
        """The session with its history, or None when there is no such session of this user."""
        ...

    async def hold(self, hold: Hold, question: str, *, sandbox: bool) -> bool:
        """Write the question and the hold; False when the idempotency key is taken or the session
        is gone."""
        ...

    async def settle(
        self, hold: Hold, settlement: Settlement, usage: Fact[UsageRecorded] | None
    ) -> bool:
        """Close the hold with its answer and usage; False when it was closed before."""
        ...

    async def renew(
        self, progress: Mapping[TurnId, tuple[int, str | None]], until: datetime
    ) -> None:
        """Keep running turns' leases, noting their output so far and the vendor's id."""
        ...

    async def orphans(self, now: datetime, *, most: int) -> Sequence[Orphan]: ...

    async def earlier(self, user_id: UserId, idempotency_key: str) -> EarlierTurn | None: ...


class ChatProvider(Protocol):
    """One vendor's wire. Translates, and nothing more."""

    name: str

    def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        """The vendor's answer as frames: Began, Text …, Ended.

        Raises VendorRefused before the first frame when the vendor declined, VendorFailed when it
        broke off, and what the egress says about the user's key.
        """
        ...


class Reservation(Protocol):
    """An admitted request's place in its windows."""

    @property
    def limits(self) -> Sequence[LimitState]: ...

    async def refund(self) -> None: ...


class Admission(Protocol):
    """Lets a turn in, or raises LimitReached or Unavailable."""

    async def admit(
        self, user_id: UserId, tier: Tier, provider: str, *, now: datetime, reservation: UUID
    ) -> Reservation:
        """Raises TierChanged when the user has another tier than the one given."""
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
