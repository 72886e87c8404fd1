"""What billing's verbs need, in billing's words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.billing.domain.completeness import Gap, Progress, Stream
from services.billing.domain.ledger import Entry
from services.billing.domain.limits import LimitRule, LimitStanding
from services.billing.domain.period import Period
from services.billing.domain.price_book import Model, PriceOverride
from services.billing.domain.subscription import Subscription
from services.billing.domain.usage_report import Dimension, Group
from shared.erasure import ForgottenUsers
from shared.events import Event
from shared.ids import EventId, UserId

Position = tuple[datetime, EventId]  # where a page of a user's entries ends


class Ledger(Protocol):
    """The append-only ledger and its hourly sums, which change together."""

    async def record(self, entries: Sequence[Entry]) -> int:
        """Add those that are not there yet; answers how many that were."""
        ...

    async def get(self, event_id: EventId) -> Entry | None: ...

    async def of_user(
        self, user_id: UserId, *, period: Period, after: Position | None, most: int
    ) -> Sequence[Entry]:
        """The newest first, after a position."""
        ...

    async def report(
        self,
        user_id: UserId,
        period: Period,
        dimensions: Sequence[Dimension],
        *,
        sandbox: bool | None,
    ) -> Sequence[Group]:
        """Sums over whole hours."""
        ...


class UnpricedUsage(Protocol):
    """Entries that wait for a price."""

    async def models(self) -> Sequence[tuple[Model, int]]:
        """The models they are of, and how many of each."""
        ...

    async def page(self, model: Model, *, since: datetime | None, most: int) -> Sequence[Entry]:
        """The next ones of a model, oldest id first, locked until the work ends. Goes on where the
        last call stopped, and begins again once the end was reached."""
        ...

    async def rate(self, entries: Sequence[Entry]) -> None:
        """Keep the ratings of entries that now have one."""
        ...


class Prices(Protocol):
    """The operator's own prices."""

    async def of(self, models: Collection[Model]) -> Sequence[PriceOverride]: ...

    async def add(self, price: PriceOverride) -> bool:
        """False when the model has a price from that moment on."""
        ...


class Subscriptions(Protocol):
    """Users' subscriptions, and every change they went through."""

    async def get(self, user_id: UserId) -> Subscription | None: ...

    async def hold(self, user_id: UserId, *, is_organisation: bool = False) -> Subscription:
        """The user's (or organisation's) subscription, which nobody else changes until the work
        ends. One that is not there yet is made for that kind of holder."""
        ...

    async def save(self, subscription: Subscription, *, by: UserId) -> None: ...

    async def delete(self, user_id: UserId) -> None:
        """Drop it; the changes that it went through stay."""
        ...

    async def changes_of(self, user_id: UserId) -> Sequence[Subscription]:
        """What it was after each change, the first one first."""
        ...


@dataclass(frozen=True, slots=True)
class Announcement:
    """How far a producer says it has come."""

    stream: Stream
    last_sequence: int


class Completeness(Protocol):
    """What has come of each producer's streams, and what is missing."""

    async def announce(self, announcements: Sequence[Announcement]) -> None: ...
    async def progress(self) -> Sequence[Progress]: ...

    async def gaps(self) -> Sequence[Gap]:
        """The gaps known so far; nobody else works on them until the work ends."""
        ...

    async def known_gaps(self) -> Sequence[Gap]:
        """The same, to look at only."""
        ...

    async def keep_gaps(self, gaps: Sequence[Gap]) -> None:
        """These are all the gaps there are now."""
        ...


class Upkeep(Protocol):
    """The ledger's state as its keepers see it."""

    async def prepare_months(self, months: Sequence[datetime]) -> None:
        """Make room for months to come; does nothing for those that have it."""
        ...

    async def stray_rows(self) -> int:
        """Entries whose id tells a time that no month's room was made for."""
        ...

    async def dead_events(self) -> int: ...


class UnitOfWork(Protocol):
    """One transaction."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def unpriced(self) -> UnpricedUsage: ...
    @property
    def prices(self) -> Prices: ...
    @property
    def subscriptions(self) -> Subscriptions: ...
    @property
    def completeness(self) -> Completeness: ...
    @property
    def upkeep(self) -> Upkeep: ...
    @property
    def forgotten(self) -> ForgottenUsers: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...


NewUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


class LimitCounters(Protocol):
    """The counters that chat and voice admit requests by."""

    async def standing(
        self, user_id: UserId, rules: Sequence[LimitRule], now: datetime
    ) -> Sequence[LimitStanding]:
        """Raises DependencyUnavailable while they are out of reach."""
        ...

    async def told_tier(self, user_id: UserId) -> str | None:
        """The tier that requests are admitted by whatever a token claims, where it has changed
        lately. Raises DependencyUnavailable."""
        ...


class Organisations(Protocol):
    """Organisations belong to auth, which knows at any moment who is what there."""

    async def may_buy(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        """Whether the user decides about its subscription; None for who does not belong to it.

        Raises DependencyUnavailable: an access token's claim may be minutes old, so is not asked.
        """
        ...
