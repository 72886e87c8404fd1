"""What the verbs of auth need from the outside, in the words of the domain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from services.auth.domain.attempts import Failures
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.sign_in import EndReason, SignIn, SignInId
from services.auth.domain.signing_keys import SigningKeys
from services.auth.domain.user import LoginName, User
from shared.events import Event
from shared.ids import EventId, UserId


class Users(Protocol):
    """The accounts."""

    async def get(self, user_id: UserId) -> User | None: ...

    async def hold(self, user_id: UserId) -> User | None:
        """The user, whom nobody else changes until this unit of work ends."""
        ...

    async def named(self, name: LoginName) -> User | None: ...

    async def add(self, user: User) -> None:
        """Raises AccountExists when the e-mail address or the username is taken."""
        ...

    async def save(self, user: User) -> None:
        """Write a user that this unit of work holds; leaves the tier alone.

        Raises UsernameTaken.
        """
        ...

    async def set_tiers(self, tiers: Mapping[UserId, tuple[str, int]], at: datetime) -> None:
        """Give users their tier where its revision is higher than the one known."""
        ...


class SignIns(Protocol):
    """The sign-ins, including those that have ended but are not yet forgotten."""

    async def get(self, sign_in_id: SignInId) -> SignIn | None: ...

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        """The newest first, from the one after `before` on."""
        ...

    async def add(self, sign_in: SignIn) -> None: ...

    async def advance(self, rotated: SignIn) -> bool:
        """Keep a rotation unless another one was faster; False then."""
        ...

    async def end(self, sign_in_id: SignInId, reason: EndReason, at: datetime) -> None:
        """The first reason stays."""
        ...

    async def end_all_of(
        self, user_id: UserId, reason: EndReason, at: datetime, *, but: SignInId | None = None
    ) -> None: ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that were over by then; answers how many."""
        ...


class LoginFailures(Protocol):
    """Wrong passwords, counted by subject."""

    async def of(self, subject: str) -> Failures | None: ...

    async def add(self, subject: str, at: datetime, *, window_ends_at: datetime) -> Failures:
        """Count one more; the window is a new one if the last has ended."""
        ...

    async def forget(self, subject: str) -> None: ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some whose window had ended by then; answers how many."""
        ...


class UnitOfWork(Protocol):
    """State and facts that commit together, on a clean exit."""

    @property
    def users(self) -> Users: ...

    @property
    def sign_ins(self) -> SignIns: ...

    @property
    def login_failures(self) -> LoginFailures: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


NewUnitOfWork = Callable[[], UnitOfWork]


class Passwords(Protocol):
    """Hashes and checks passwords; slow on purpose. Methods raise PasswordsBusy."""

    async def hash(self, password: Password) -> PasswordHash: ...

    async def verify(self, password: Password, hash_: PasswordHash | None) -> bool:
        """Whether the password fits. None stands for an unknown user: as much work, then False."""
        ...

    def is_outdated(self, hash_: PasswordHash) -> bool:
        """Whether it was made with other parameters than today's."""
        ...


class SigningKeySource(Protocol):
    """Where the signing keys come from."""

    def current(self) -> SigningKeys:
        """Raises SigningKeysUnavailable."""
        ...


class ServiceState(StrEnum):
    """How a service is, seen from outside."""

    OK = "ok"
    NOT_READY = "not_ready"
    UNREACHABLE = "unreachable"


# Asks one service how it is; never fails.
Probe = Callable[[], Awaitable[ServiceState]]
