"""What outside reports, manifests, closed months and alerts are kept in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from services.billing.domain.closing import ClosedPeriod, Finding, LateUsage, Month, Totals
from services.billing.domain.limits import AlertRule, Approach
from services.billing.domain.manifest import HourManifest, ProducerHours
from services.billing.domain.outside_usage import HeldCount, HeldEvent, OutsideEvent, Trouble
from services.billing.domain.period import Period
from services.billing.domain.price_book import PriceOverride
from services.billing.domain.price_preview import PriceEffect
from services.billing.domain.rerating import Rerating, ReratingProgress
from shared.ids import EventId, UserId


class OutsideUsage(Protocol):
    """What services outside the suite have told."""

    async def take_turn(self, reporter: UserId, *, alone: bool) -> None:
        """Before anything of a report is written: one that holds something is the only one of its
        reporter's until the work ends, and the others go on beside each other."""
        ...

    async def note(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Mapping[tuple[str, str], bytes]:
        """Claim their keys and what they say; answers the digests of those whose key was claimed
        before, and those that another reporter told with their own. What was held under one of the
        keys is settled."""
        ...

    async def counted(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Mapping[tuple[str, str], bytes]:
        """The keys among theirs under which something counts, each with its digest."""
        ...

    async def too_late(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Collection[tuple[str, str]]:
        """Of those that were not told before the keys of which the ledger's time is archived."""
        ...

    async def keep_metadata(self, events: Sequence[OutsideEvent]) -> None:
        """What reporters say of events that are now in the ledger; nothing of a user who was
        forgotten."""
        ...

    async def forget(self, user_id: UserId, *, most: int) -> bool:
        """What reporters say beside a user's usage, so many rows of it at most; False when there
        may be more. What they say later is not kept."""
        ...

    async def hold(
        self, reporter: UserId, held: Sequence[tuple[OutsideEvent, Trouble, Mapping[str, Any]]]
    ) -> None:
        """Keep what can't be counted as it is, the last one told per key; of a user who was
        forgotten without what is said beside it."""
        ...

    async def held(self) -> Sequence[HeldCount]:
        """How much is held, by reason and meter."""
        ...

    async def held_events(
        self, *, after: tuple[UUID, str, str] | None, most: int
    ) -> Sequence[HeldEvent]:
        """What is held, by reporter, source and id."""
        ...

    async def held_of(
        self, user_id: UserId, *, after: tuple[UUID, str, str] | None, most: int
    ) -> Sequence[HeldEvent]:
        """What was held of a user's, also what is settled by now, in the same order and with what
        is said beside it."""
        ...

    async def refuse_held(
        self, reporter: UserId, key: tuple[str, str], *, by: UserId, reason: str
    ) -> bool:
        """Nobody waits for it any more; what was told is kept. False when it is not held."""
        ...

    async def held_between(self, begins: datetime, ends: datetime) -> int: ...

    async def tiers_of(self, events: Sequence[OutsideEvent]) -> Sequence[str | None]:
        """In their order the tiers that their users had when they happened: their own, or the
        higher one by which chat and voice have served them within the day before. None for those
        of whom neither is known."""
        ...


class Manifests(Protocol):
    """What producers say of their hours."""

    async def note(self, manifests: Sequence[HourManifest]) -> None:
        """The last word on an hour counts."""
        ...

    async def compare(self, *, most: int) -> tuple[int, int]:
        """Compare those that do not agree or were never compared; answers how many were, and how
        many do not agree."""
        ...

    async def by_producer(self, period: Period) -> Sequence[ProducerHours]: ...
    async def mismatched(self, period: Period, *, most: int) -> Sequence[HourManifest]: ...

    async def hours_off(self, period: Period) -> Sequence[tuple[str, bool, int]]:
        """Counted anew over the whole ledger of the period: producers, whether the manifest is
        missing (else it differs), and in how many hours."""
        ...

    async def unfinished(self, period: Period) -> Sequence[str]:
        """Streams that told hours of the period and went on after it, but not its last hour."""
        ...


class Periods(Protocol):
    """Closed months."""

    async def halt(self) -> datetime:
        """Let nothing into the ledger until the work ends; what comes after the moment that it
        answers is late."""
        ...

    async def get(self, month: Month) -> ClosedPeriod | None: ...
    async def newest(self, *, most: int) -> Sequence[ClosedPeriod]: ...

    async def add(self, period: ClosedPeriod) -> bool:
        """False when it is closed already."""
        ...

    async def given_up(self) -> Mapping[str, datetime]:
        """Streams of whom nothing was heard when a month was closed all the same, and when that
        was last."""
        ...

    async def totals(self, month: Month) -> Totals: ...

    async def entries_at_closing(self, closed: ClosedPeriod) -> tuple[int, str]:
        """How many entries of the month came before it was closed, and the digest of their ids, by
        the ledger of today."""
        ...

    async def unpriced(self, month: Month) -> Sequence[Finding]: ...

    async def to_rerate(self, month: Month) -> Sequence[Finding]:
        """Entries that a price which was set for them too has not been applied to yet."""
        ...

    async def late(self, closed: ClosedPeriod, *, most: int) -> LateUsage: ...


class LimitAlerts(Protocol):
    """Who was told of which limit."""

    async def approached(
        self, rules: Sequence[AlertRule], *, since: datetime, until: datetime
    ) -> Sequence[Approach]:
        """Whose usage came since then, was used before `until`, and has come to a threshold that
        they were not told of; from now on they count as told."""
        ...

    async def note_reached(self, one: Approach, starts_at: datetime) -> bool:
        """That they count as told of all thresholds of the window that starts then; False when of
        the last one they did before."""
        ...

    async def forget(self, *, before: datetime) -> None: ...


class PriceEffects(Protocol):
    """What a price would change."""

    async def of(self, price: PriceOverride) -> Sequence[PriceEffect]:
        """By tier; nothing is written."""
        ...

    async def ask_rerating(self, price: PriceOverride) -> None:
        """Let it hold for what was rated already, too."""
        ...

    async def next_rerating(self, *, asked_before: datetime) -> Rerating | None:
        """The oldest that is not done and that nobody else works on until the work ends."""
        ...

    async def reratings(self) -> Sequence[ReratingProgress]:
        """Those that are not done, the oldest first."""
        ...

    async def rated_entries(self, rerating: Rerating, *, most: int) -> Sequence[EventId]:
        """The next entries that the price is to hold for and that another one rated."""
        ...

    async def went_on(
        self, rerating: Rerating, *, after: EventId | None, corrected: int, done: bool
    ) -> None: ...
