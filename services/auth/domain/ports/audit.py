"""Where the audit trail is kept, and the links over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.auth.domain.audit import AuditEntry
from services.auth.domain.audit_chain import (
    ChainedEvent,
    ChainState,
    Head,
    Link,
    LinkedEvent,
)
from shared.ids import UserId


class Audit(Protocol):
    """The audit trail."""

    async def note(self, entry: AuditEntry) -> None:
        """Add a line, in the transaction of what it tells of."""
        ...

    async def note_all(self, entries: Sequence[AuditEntry]) -> None:
        """What the suite itself did, to many: from nowhere."""
        ...

    async def of_user(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """What concerns a user: the newest first, from the one after `before` on."""
        ...

    async def by_user(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """What a user did that concerns others, or nobody alone, likewise."""
        ...

    async def of_organisation(
        self, organisation_id: UUID, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """What happened in an organisation, likewise."""
        ...

    async def of_everybody(self, *, since: datetime | None, most: int) -> Sequence[AuditEntry]:
        """The newest first."""
        ...

    async def erase_origins_of(self, user_id: UserId, *, most: int) -> int:
        """Forget from where somebody did what they did; answers how many rows it was."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Forget from where things were done before; the entries themselves stay."""
        ...


class AuditChain(Protocol):
    """The links over the audit trail."""

    async def take_turn(self) -> bool:
        """Whether this unit of work is the one that may add links until it ends."""
        ...

    async def head(self) -> Head:
        """The last link, which the next one follows."""
        ...

    async def unlinked(self, *, most: int) -> Sequence[ChainedEvent]:
        """Events that have no link, in the order in which they shall get one."""
        ...

    async def add(self, links: Sequence[Link]) -> None: ...

    async def after(self, sequence: int, *, most: int) -> Sequence[LinkedEvent]:
        """The links behind this one in their order, each with its event."""
        ...

    async def events_after(
        self, event_id: UUID | None, *, most: int
    ) -> Sequence[tuple[UUID, bool, bool]]:
        """Ids of events in their order, with whether each is linked and whether it waits."""
        ...

    async def state(self, at: datetime) -> ChainState:
        """How far the links are behind the trail, as seen at that moment."""
        ...
