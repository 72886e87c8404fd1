"""Usage that was told so long after it was used that two people say whether it is billed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from services.billing.domain.closing import Month
from shared.ids import EventId, UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AgedGroup:
    """Which waiting usage is meant: all of one user's of one month that one producer told, as far
    as it is in the same state. `ids` is the digest of its events' ids, so that nobody decides about
    what they have not seen."""

    user_id: UserId
    month: Month
    producer: str
    ids: str


@dataclass(frozen=True, slots=True)
class AgedUsage:
    """Some of it, as it waits. `cost_microusd` is of what has a price; `approved_by` is the first
    of the two, if there is one."""

    group: AgedGroup
    events: int
    unpriced: int
    cost_microusd: int
    used_from: datetime
    used_until: datetime
    received_from: datetime
    received_until: datetime
    approved_by: UserId | None
    approved_at: datetime | None
    approval_reason: str | None


@dataclass(frozen=True, slots=True)
class HeldUsage:
    """The events of a group, which nobody else decides about until the work ends."""

    events: Sequence[EventId]
    approved_by: UserId | None


class AgedUsages(Protocol):
    """What waits for two people, and is on no invoice until then. What is voided waits no more.
    `after`: how old it is then; None: nothing more begins to wait."""

    async def waiting(self, after: timedelta | None, *, most: int) -> Sequence[AgedUsage]:
        """The oldest months first."""
        ...

    async def count(self, after: timedelta | None) -> int:
        """How many events wait."""
        ...

    async def hold(self, group: AgedGroup, after: timedelta | None) -> HeldUsage | None:
        """None when there is no such group any more."""
        ...

    async def approve(
        self, events: Sequence[EventId], *, by: UserId, at: datetime, reason: str
    ) -> None:
        """The first of two."""
        ...

    async def release(
        self, events: Sequence[EventId], *, by: UserId, at: datetime, reason: str
    ) -> None:
        """The second of two: the next run puts it on an invoice."""
        ...
