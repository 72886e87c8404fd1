"""Where erasures are kept, and whom they and an export ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from services.auth.domain.erasure import Erasure
from services.auth.domain.user import User
from shared.erasure import ErasureId
from shared.ids import UserId


class Erasures(Protocol):
    """Deleted accounts, and who has forgotten their users."""

    async def hold_account(self, user_id: UserId) -> None:
        """From now on nobody begins anything for this account."""
        ...

    async def hold_credentials_of(self, user_id: UserId) -> Sequence[UUID]:
        """The sign-ins and personal tokens that have not ended, which nobody else changes until
        this unit of work ends."""
        ...

    async def delete_account(self, user: User) -> None:
        """With all that hangs on it, and what waits for its proven address."""
        ...

    async def add(self, erasure: Erasure) -> None: ...

    async def find(self, receipt_hash: bytes) -> Erasure | None: ...

    async def hold(self, erasure_id: ErasureId) -> Erasure | None:
        """The erasure, which nobody else changes until this unit of work ends."""
        ...

    async def save(self, erasure: Erasure) -> None: ...

    async def unfinished(
        self, since: datetime, before: datetime, *, most: int
    ) -> Sequence[Erasure]:
        """Those that were asked for between then and then, the oldest first."""
        ...

    async def latest(self, *, most: int) -> Sequence[Erasure]: ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some that were complete by then; answers how many."""
        ...


class CollectedAccount(Protocol):
    """All that is kept about a user, complete."""

    def chunks(self) -> AsyncIterator[bytes]:
        """One JSON document; good once."""
        ...


class AccountCollector(Protocol):
    """Asks every service what it keeps about a user."""

    async def collect(
        self, user_id: UserId, own: AsyncIterator[bytes], *, at: datetime
    ) -> CollectedAccount:
        """Raises ExportUnavailable."""
        ...


class ClonedVoices(Protocol):
    """Voices that users had made, in their own accounts at a vendor."""

    async def remove_all(self, user_id: UserId, *, access_token: str) -> int | None:
        """Within seconds, and raising nothing: answers how many could not be removed, None where
        nobody knows."""
        ...


class ServiceState(StrEnum):
    """How a service is, seen from outside."""

    OK = "ok"
    NOT_READY = "not_ready"
    UNREACHABLE = "unreachable"


# Asks one service how it is; never fails.
Probe = Callable[[], Awaitable[ServiceState]]
