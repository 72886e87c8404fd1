"""Where sign-ins are kept and counted, and the keys that sign their tokens."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.auth.domain.attempts import Failures
from services.auth.domain.key_rotation import KeyLine
from services.auth.domain.sign_in import EndReason, SignIn, SignInId
from services.auth.domain.signing_keys import SigningKeys
from shared.ids import UserId


class SignIns(Protocol):
    """The sign-ins, including those that have ended but are not yet forgotten."""

    async def get(self, sign_in_id: SignInId) -> SignIn | None: ...

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        """The newest first, from the one after `before` on."""
        ...

    async def kept_of(
        self, user_id: UserId, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        """Those that are over as well, likewise."""
        ...

    async def add(self, sign_in: SignIn) -> None: ...

    async def advance(self, rotated: SignIn) -> bool:
        """Keep a rotation unless another one was faster; False then."""
        ...

    async def prove_again(self, proven: SignIn) -> None:
        """Keep when and how its person has proven who they are."""
        ...

    async def end(self, sign_in_id: SignInId, reason: EndReason, at: datetime) -> bool:
        """The first reason stays; False when there was one. Everybody is told once this is
        committed."""
        ...

    async def end_all_of(
        self, user_id: UserId, reason: EndReason, at: datetime, *, but: SignInId | None = None
    ) -> int:
        """Answers how many these were. Codes that nobody has redeemed yet are void, too."""
        ...

    async def end_all_of_client(self, client_id: str, reason: EndReason, at: datetime) -> int:
        """Answers how many were still live."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that were over by then; answers how many."""
        ...


class LoginFailures(Protocol):
    """Wrong guesses, counted by subject."""

    async def of(self, subject: str) -> Failures | None:
        """The count as it stands, whose window may have ended; None without any."""
        ...

    async def of_all(self, subjects: Sequence[str]) -> Mapping[str, Failures]: ...

    async def hold(self, subject: str) -> Failures | None:
        """As `of`, and nobody else holds this subject until this unit of work ends."""
        ...

    async def save(self, subject: str, failures: Failures) -> None:
        """Write the count of a subject that this unit of work holds."""
        ...

    async def add(self, subject: str, at: datetime, *, window_ends_at: datetime) -> Failures:
        """Count one more, holding nothing; the window is a new one if the last has ended."""
        ...

    async def forget(self, subject: str) -> None:
        """Count anew, for whoever has proven who they are."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some whose window had ended by then; answers how many."""
        ...


class EndedCredentials(Protocol):
    """Sign-ins and personal tokens that have ended, while access tokens of theirs may live."""

    async def add(self, ids: Collection[UUID], *, of: UserId, at: datetime) -> None:
        """Everybody is told once this is committed. `sign_ins.end` does this by itself."""
        ...

    async def take_back(self, ids: Collection[UUID]) -> None:
        """They are good again. Everybody is told once this is committed."""
        ...

    async def since(self, at: datetime) -> Sequence[UUID]:
        """Ids of those that have ended since that moment."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int: ...


class SessionNews(Protocol):
    """Tells everybody which sessions have ended."""

    async def repeat(self, all_ended_lately: Iterable[UUID]) -> None:
        """Raises DependencyUnavailable."""
        ...

    async def take_back(self, session_ids: Iterable[UUID]) -> None:
        """They did not end, or nobody has to know any more."""
        ...


class SigningKeySource(Protocol):
    """Where the signing keys come from."""

    def current(self) -> SigningKeys:
        """Raises SigningKeysUnavailable."""
        ...


class SigningKeyStore(Protocol):
    """The same keys for the console, which alone may change them."""

    def read(self) -> KeyLine:
        """Raises UnusableSigningKeys or OSError."""
        ...

    def change(self, change: Callable[[KeyLine], KeyLine]) -> KeyLine:
        """Replace the keys in one step, one caller at a time; raises what `change` raises too."""
        ...
