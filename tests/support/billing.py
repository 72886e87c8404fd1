"""Builders and in-memory ports of billing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.billing.domain.completeness import Gap, Progress
from services.billing.domain.ledger import Entry, Rating
from services.billing.domain.limits import LimitRule, LimitStanding
from services.billing.domain.period import Period
from services.billing.domain.ports import Announcement, Position
from services.billing.domain.price_book import Model, PriceId, PriceOverride, UnitPrices
from services.billing.domain.subscription import Subscription
from services.billing.domain.usage_report import Dimension, Group
from shared.errors import DependencyUnavailable
from shared.events import Event, Fact
from shared.events.usage import UsageManifest, UsageRecorded
from shared.ids import EventId, UserId, uuid7
from shared.money import MicroDollars
from tests.support.erasure import MemoryForgottenUsers

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
EPOCH = UUID("11111111-1111-4111-8111-111111111111")


class StoppedClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def move(self, step: timedelta) -> None:
        self._now += step


def id_made_at(moment: datetime) -> EventId:
    """A version 7 UUID whose time is `moment`."""
    milliseconds = int(moment.timestamp() * 1000)
    rest = uuid4().int & ((1 << 80) - 1)
    return EventId(
        UUID(int=milliseconds << 80 | 7 << 76 | rest & ~(0xF << 76) & ~(3 << 62) | 2 << 62)
    )


def a_usage(
    *,
    user: UUID | None = None,
    id_: UUID | None = None,
    at: datetime | None = None,
    producer: str = "chat",
    tier: str = "free",
    epoch: UUID | None = None,
    sequence: int | None = None,
    **facts: Any,
) -> Fact[UsageRecorded]:
    """A usage event of one call of gpt-6-luna: 1200 tokens in, 350 out, 205 micro-dollars."""
    user_id = user or uuid4()
    usage = {
        "user_id": user_id,
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-6-luna",
        "source": "provider",
        "outcome": "done",
        "input_tokens": 1200,
        "cache_read_tokens": 1000,
        "output_tokens": 350,
        "request_id": f"req-{uuid4()}",
        **facts,
    }
    return Fact(
        event=UsageRecorded.model_validate(usage),
        subject=user_id,
        tier=tier,
        id=EventId(id_ or uuid7()),
        time=at or datetime.now(UTC),
        source=producer,
        request_id=str(usage["request_id"]),
        epoch=epoch or (EPOCH if sequence is not None else None),
        sequence=sequence,
    )


def a_speech(**facts: Any) -> Fact[UsageRecorded]:
    """A usage event of 1000 spoken characters, whose price is unknown."""
    return a_usage(
        **{
            "producer": "voice",
            "operation": "voice",
            "provider": "elevenlabs",
            "model": "eleven_flash_v2_5",
            "input_tokens": 0,
            "cache_read_tokens": 0,
            "output_tokens": 0,
            "characters": 1000,
            **facts,
        }
    )


def a_manifest(
    last: int, *, producer: str = "chat", tier: str = "free", source: str | None = None
) -> Fact[UsageManifest]:
    """A producer's word that its stream has come to `last`."""
    manifest = UsageManifest(
        producer=producer, stream=f"usage.recorded.{tier}", epoch=EPOCH, last_sequence=last
    )
    return Fact(event=manifest, subject=UUID(int=0), tier=tier, source=source or producer)


def an_entry(**facts: Any) -> Entry:
    """A ledger entry, not rated."""
    return Entry.reported(a_usage(**facts))


def a_price(
    provider: str = "elevenlabs",
    model: str = "eleven_flash_v2_5",
    *,
    since: datetime = NOON,
    **prices: int,
) -> PriceOverride:
    """A price of the operator's; 50 dollars per million characters when nothing is said."""
    return PriceOverride(
        id=PriceId(uuid7()),
        provider=provider,
        model=model,
        effective_from=since,
        prices=UnitPrices(**(prices or {"characters": 50_000_000})),
        set_by=UserId(uuid4()),
        set_at=since,
    )


class FixedPrices:
    """A price list that knows some models, at one price a call."""

    def __init__(self, **costs: int) -> None:
        self.costs = {model.replace("_", "-"): cost for model, cost in costs.items()}

    def rate(self, entry: Entry) -> Rating | None:
        cost = self.costs.get(entry.model)
        return None if cost is None else Rating(MicroDollars(cost), "list/1")

    def knows(self, model: Model, _at: datetime) -> bool:
        return model[1] in self.costs


@dataclass
class Memory:
    """Everything that billing keeps, in memory, behind all of its ports at once."""

    entries: dict[EventId, Entry] = field(default_factory=dict)
    overrides: list[PriceOverride] = field(default_factory=list)
    kept: dict[UserId, Subscription] = field(default_factory=dict)
    changes: list[tuple[Subscription, UserId]] = field(default_factory=list)
    streams: list[Progress] = field(default_factory=list)
    announced: list[Announcement] = field(default_factory=list)
    gap_list: list[Gap] = field(default_factory=list)
    months: list[datetime] = field(default_factory=list)
    strays: int = 0
    dead: int = 0
    forgotten: MemoryForgottenUsers = field(default_factory=MemoryForgottenUsers)
    cursors: dict[Model, EventId] = field(default_factory=dict)
    published: list[tuple[Event, UUID, str]] = field(default_factory=list)
    units_of_work: int = 0

    def work(self) -> AbstractAsyncContextManager[MemoryWork]:
        """A unit of work; what it published counts only if it ends well."""
        return _memory_work(self)


@asynccontextmanager
async def _memory_work(memory: Memory) -> AsyncIterator[MemoryWork]:
    memory.units_of_work += 1
    work = MemoryWork(memory)
    yield work
    memory.published += work.facts


class MemoryWork:
    """One transaction on a Memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.facts: list[tuple[Event, UUID, str]] = []
        self.ledger = _Ledger(memory)
        self.unpriced = _Unpriced(memory)
        self.prices = _Prices(memory)
        self.subscriptions = _Subscriptions(memory)
        self.completeness = _Completeness(memory)
        self.upkeep = _Upkeep(memory)
        self.forgotten = memory.forgotten

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        self.facts.append((event, subject, tier))


class _Ledger:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def record(self, entries: Sequence[Entry]) -> int:
        new = {e.event_id: e for e in entries if e.event_id not in self._memory.entries}
        self._memory.entries |= new
        return len(new)

    async def get(self, event_id: EventId) -> Entry | None:
        return self._memory.entries.get(event_id)

    async def of_user(
        self, user_id: UserId, *, period: Period, after: Position | None, most: int
    ) -> Sequence[Entry]:
        found = [
            entry
            for entry in self._memory.entries.values()
            if entry.user_id == user_id
            and period.begins <= entry.occurred_at < period.ends
            and (after is None or (entry.occurred_at, entry.event_id) < after)
        ]
        found.sort(key=lambda entry: (entry.occurred_at, entry.event_id), reverse=True)
        return found[:most]

    async def report(
        self,
        user_id: UserId,
        period: Period,
        dimensions: Sequence[Dimension],
        *,
        sandbox: bool | None,
    ) -> Sequence[Group]:
        return []


class _Unpriced:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def _waiting(self) -> Iterable[Entry]:
        return (entry for entry in self._memory.entries.values() if entry.rating is None)

    async def models(self) -> Sequence[tuple[Model, int]]:
        counts: dict[Model, int] = {}
        for entry in self._waiting():
            model = (entry.provider, entry.model)
            counts[model] = counts.get(model, 0) + 1
        return sorted(counts.items())

    async def page(self, model: Model, *, since: datetime | None, most: int) -> Sequence[Entry]:
        after = self._memory.cursors.pop(model, EventId(UUID(int=0)))
        page = sorted(
            (
                entry
                for entry in self._waiting()
                if (entry.provider, entry.model) == model
                and entry.event_id > after
                and (since is None or entry.occurred_at >= since)
            ),
            key=lambda entry: entry.event_id,
        )[:most]
        if len(page) == most:
            self._memory.cursors[model] = page[-1].event_id
        return page

    async def rate(self, entries: Sequence[Entry]) -> None:
        self._memory.entries |= {entry.event_id: entry for entry in entries}


class _Prices:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def of(self, models: Collection[Model]) -> Sequence[PriceOverride]:
        return [o for o in self._memory.overrides if (o.provider, o.model) in models]

    async def add(self, price: PriceOverride) -> bool:
        key = (price.provider, price.model, price.effective_from)
        if any((o.provider, o.model, o.effective_from) == key for o in self._memory.overrides):
            return False
        self._memory.overrides.append(price)
        return True


class _Subscriptions:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(self, user_id: UserId) -> Subscription | None:
        return self._memory.kept.get(user_id)

    async def hold(self, user_id: UserId, *, is_organisation: bool = False) -> Subscription:
        new = Subscription.initial(user_id, is_organisation=is_organisation)
        return self._memory.kept.setdefault(user_id, new)

    async def save(self, subscription: Subscription, *, by: UserId) -> None:
        self._memory.kept[subscription.user_id] = subscription
        self._memory.changes.append((subscription, by))

    async def delete(self, user_id: UserId) -> None:
        self._memory.kept.pop(user_id, None)

    async def changes_of(self, user_id: UserId) -> Sequence[Subscription]:
        return [change for change, _ in self._memory.changes if change.user_id == user_id]


class _Completeness:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def announce(self, announcements: Sequence[Announcement]) -> None:
        self._memory.announced += announcements

    async def progress(self) -> Sequence[Progress]:
        return self._memory.streams

    async def gaps(self) -> Sequence[Gap]:
        return self._memory.gap_list

    async def known_gaps(self) -> Sequence[Gap]:
        return self._memory.gap_list

    async def keep_gaps(self, gaps: Sequence[Gap]) -> None:
        self._memory.gap_list = list(gaps)


class _Upkeep:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def prepare_months(self, months: Sequence[datetime]) -> None:
        self._memory.months += months

    async def stray_rows(self) -> int:
        return self._memory.strays

    async def dead_events(self) -> int:
        return self._memory.dead


class FixedCounters:
    """Limit counters with given values; without any they are out of reach."""

    def __init__(self, used: dict[str, int] | None, *, told: str | None = None) -> None:
        self._used = used
        self._told = told

    async def told_tier(self, _user_id: UserId) -> str | None:
        return self._told

    async def standing(
        self, _user_id: UserId, rules: Sequence[LimitRule], now: datetime
    ) -> Sequence[LimitStanding]:
        if self._used is None:
            raise DependencyUnavailable("cache")
        later = now + timedelta(minutes=1)
        return [LimitStanding(rule, self._used.get(rule.name, 0), later) for rule in rules]


class FixedOrganisations:
    """What auth says about who may buy for an organisation; without an answer it is away."""

    def __init__(self, may_buy: Mapping[tuple[UUID, UserId], bool] | None = None) -> None:
        self._may_buy = may_buy

    async def may_buy(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        if self._may_buy is None:
            raise DependencyUnavailable("account service")
        return self._may_buy.get((organisation_id, user_id))
