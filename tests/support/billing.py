"""Builders and in-memory ports of billing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.billing.domain.charge import Charge
from services.billing.domain.closing import ClosedPeriod, Finding, LateUsage, Month, Totals
from services.billing.domain.completeness import Gap, Progress
from services.billing.domain.ledger import Counts, Entry, Rating
from services.billing.domain.ledger_ports import ChainLag
from services.billing.domain.limits import AlertRule, Approach, LimitStanding
from services.billing.domain.manifest import HourManifest, ProducerHours
from services.billing.domain.outside_usage import HeldCount, OutsideEvent, Trouble
from services.billing.domain.period import Period
from services.billing.domain.plan_price import PlanPrice
from services.billing.domain.ports import Announcement, Position, RecordedBefore
from services.billing.domain.price_book import (
    Model,
    PriceId,
    PriceOverride,
    Tariff,
    UnitPrices,
)
from services.billing.domain.price_preview import PriceEffect
from services.billing.domain.rerating import Rerating, ReratingProgress
from services.billing.domain.rollup import Drift
from services.billing.domain.subscription import Subscription
from services.billing.domain.usage_columns import UsageColumns
from services.billing.domain.usage_report import Dimension, Group
from shared.errors import DependencyUnavailable
from shared.events import Event, Fact
from shared.events.usage import UsageManifest, UsageRecorded
from shared.ids import EventId, UserId, uuid7
from shared.limits.tier_windows import tier_windows, vendor_of
from shared.money import MicroDollars
from shared.tiers import Tier
from tests.support.billing_documents import MemoryAccounts, MemoryDetails
from tests.support.billing_plans import (
    MemoryCharges,
    MemoryPayments,
    MemoryPlanPrices,
    MemorySubscriptions,
)
from tests.support.billing_webhooks import MemoryWebhooks, Told
from tests.support.clocks import NOON as NOON
from tests.support.clocks import StoppedClock as StoppedClock
from tests.support.erasure import MemoryForgottenUsers

EPOCH = UUID("11111111-1111-4111-8111-111111111111")


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

    def tariff(self, model: Model, _tier: str | None, _at: datetime) -> Tariff | None:
        return FixedTariff(self.costs[model[1]]) if model[1] in self.costs else None

    def knows(self, model: Model, _at: datetime) -> bool:
        return model[1] in self.costs


@dataclass(frozen=True, slots=True)
class FixedTariff:
    """One price a call."""

    price: int
    version: str = "list/1"

    def cost(self, *_counts: int) -> MicroDollars:
        return MicroDollars(self.price)


@dataclass
class Memory:
    """Everything that billing keeps, in memory, behind all of its ports at once."""

    entries: dict[EventId, Entry] = field(default_factory=dict)
    overrides: list[PriceOverride] = field(default_factory=list)
    kept: dict[UserId, Subscription] = field(default_factory=dict)
    dissolved: set[UserId] = field(default_factory=set)
    readers: set[tuple[UserId, UserId]] = field(default_factory=set)
    changes: list[tuple[Subscription, UserId]] = field(default_factory=list)
    plan_prices: list[PlanPrice] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    payments: MemoryPayments = field(default_factory=MemoryPayments)
    details: MemoryDetails = field(default_factory=MemoryDetails)
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)
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
    outside_digests: dict[tuple[UserId, str, str], bytes] = field(default_factory=dict)
    outside_contents: set[bytes] = field(default_factory=set)
    held_usage: dict[tuple[UserId, str, str], tuple[OutsideEvent, Trouble]] = field(
        default_factory=dict
    )
    hour_manifests: list[HourManifest] = field(default_factory=list)
    hours_off: list[tuple[str, bool, int]] = field(default_factory=list)
    closed: dict[Month, ClosedPeriod] = field(default_factory=dict)
    approaches: list[Approach] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

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

    # Met on the real database alone.
    key_spending: Any
    corrections: Any
    archive: Any
    usage_rows: Any
    usage_exports: Any
    activity: Any
    analytics: Any
    invoices: Any
    invoice_runs: Any
    credit_notes: Any
    usage_fees: Any
    webhook_outbox: Any
    spending: Any
    looks: Any
    aged: Any

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.facts: list[tuple[Event, UUID, str]] = []
        self.ledger = _Ledger(memory)
        self.chain: Any = _Chain()
        self.rollups: Any = _Rollups()
        self.unpriced = _Unpriced(memory)
        self.prices: Any = _Prices(memory)
        self.subscriptions = MemorySubscriptions(memory)
        self.plan_prices = MemoryPlanPrices(memory)
        self.charges = MemoryCharges(memory)
        self.details = memory.details
        self.accounts = memory.accounts
        self.payments: Any = memory.payments
        self.completeness = _Completeness(memory)
        self.upkeep = _Upkeep(memory)
        self.outside: Any = _Outside(memory)
        self.manifests = _Manifests(memory)
        self.periods = _Periods(memory)
        self.alerts = _Alerts(memory)
        self.effects = _Effects()
        self.webhooks: Any = MemoryWebhooks(memory.told)
        self.dashboard_passes: Any = _DashboardPasses()
        self.forgotten = memory.forgotten

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        self.facts.append((event, subject, tier))


class _DashboardPasses:
    async def forget(self, _user_id: UserId) -> None:
        return None


class _Ledger:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def record(self, entries: Sequence[Entry]) -> int:
        new = {e.event_id: e for e in entries if e.event_id not in self._memory.entries}
        self._memory.entries |= new
        return len(new)

    async def record_columns(self, usage: UsageColumns) -> int:
        return await self.record(entries_of(usage))

    async def add_columns(self, usage: UsageColumns) -> int:
        entries = entries_of(usage)
        if any(entry.event_id in self._memory.entries for entry in entries):
            raise RecordedBefore
        return await self.record(entries)

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


def entries_of(usage: UsageColumns) -> list[Entry]:
    """Columns as the entries that they are made of, without their places."""
    names = UsageColumns.__slots__
    rows = [
        dict(zip(names, row, strict=True))
        for row in zip(*(getattr(usage, name) for name in names), strict=True)
    ]
    counts = [{name: row.pop(name) for name in Counts.__slots__} for row in rows]
    return [_entry_of(row, Counts(**used)) for row, used in zip(rows, counts, strict=True)]


def _entry_of(row: dict[str, Any], counts: Counts) -> Entry:
    cost, version = row.pop("cost_microusd"), row.pop("price_version")
    for name in ("producer_epoch", "stream", "sequence"):
        del row[name]
    session = row["session_id"]
    return Entry(
        **row
        | {
            "event_id": EventId(UUID(row["event_id"])),
            "user_id": UserId(UUID(row["user_id"])),
            "session_id": UUID(session) if session else None,
            "occurred_at": datetime.fromisoformat(row["occurred_at"]),
        },
        counts=counts,
        rating=None if cost is None else Rating(MicroDollars(cost), version),
    )


class _Chain:
    async def lag(self) -> ChainLag:
        return ChainLag()


class _Rollups:
    async def last_check(self) -> None:
        return None

    async def open_drifts(self, *, most: int) -> Sequence[Drift]:
        return []


class _Unpriced:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def _waiting(self) -> Iterable[Entry]:
        return (entry for entry in self._memory.entries.values() if entry.rating is None)

    async def models(self, *, of_sandbox: bool) -> Sequence[tuple[Model, int]]:
        counts: dict[Model, int] = {}
        for entry in self._waiting():
            if entry.sandbox and not of_sandbox:
                continue
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

    async def prepare_days(self, today: datetime, *, ahead: int) -> None:
        self._memory.months += [today + timedelta(days=step) for step in range(-1, ahead + 1)]

    async def stray_rows(self) -> int:
        return self._memory.strays

    async def dead_events(self) -> int:
        return self._memory.dead


class _Outside:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def take_turn(self, reporter: UserId, *, alone: bool) -> None:
        return None

    async def note(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Mapping[tuple[str, str], bytes]:
        known = {}
        for event in events:
            key = (reporter, *event.key)
            self._memory.held_usage.pop(key, None)
            if key in self._memory.outside_digests:
                known[event.key] = self._memory.outside_digests[key]
                continue
            self._memory.outside_digests[key] = event.digest
            if event.content in self._memory.outside_contents:
                known[event.key] = event.digest
            self._memory.outside_contents.add(event.content)
        return known

    async def counted(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Mapping[tuple[str, str], bytes]:
        digests = self._memory.outside_digests
        keys = {event.key for event in events if (reporter, *event.key) in digests}
        return {key: digests[(reporter, *key)] for key in keys}

    async def hold(
        self, reporter: UserId, held: Sequence[tuple[OutsideEvent, Trouble, Mapping[str, Any]]]
    ) -> None:
        for event, trouble, _ in held:
            self._memory.held_usage[(reporter, *event.key)] = (event, trouble)

    async def too_late(
        self, reporter: UserId, events: Sequence[OutsideEvent]
    ) -> Collection[tuple[str, str]]:
        return ()

    async def keep_metadata(self, events: Sequence[OutsideEvent]) -> None:
        return None

    async def forget(self, user_id: UserId, *, most: int) -> bool:
        return True

    async def held(self) -> Sequence[HeldCount]:
        return [HeldCount(t.code, e.meter, 1) for e, t in self._memory.held_usage.values()]

    async def held_between(self, begins: datetime, ends: datetime) -> int:
        held = self._memory.held_usage.values()
        return sum(1 for event, _ in held if begins <= event.occurred_at < ends)

    async def tiers_of(self, events: Sequence[OutsideEvent]) -> Sequence[str | None]:
        return [self._tier_of(event) for event in events]

    def _tier_of(self, event: OutsideEvent) -> str | None:
        held = [
            change.tier_name
            for change, _ in self._memory.changes
            if change.user_id == event.user_id
            and change.changed_at is not None
            and change.changed_at <= event.occurred_at
        ]
        return held[-1] if held else None


class _Manifests:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def note(self, manifests: Sequence[HourManifest]) -> None:
        self._memory.hour_manifests += manifests

    async def compare(self, *, most: int) -> tuple[int, int]:
        due = [one for one in self._memory.hour_manifests if one.announced != one.recorded][:most]
        return len(due), len(due)

    async def by_producer(self, period: Period) -> Sequence[ProducerHours]:
        return []

    async def mismatched(self, period: Period, *, most: int) -> Sequence[HourManifest]:
        return [one for one in self._memory.hour_manifests if one.announced != one.recorded][:most]

    async def hours_off(self, period: Period) -> Sequence[tuple[str, bool, int]]:
        return self._memory.hours_off

    async def unfinished(self, period: Period) -> Sequence[str]:
        return []


class _Periods:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def halt(self) -> datetime:
        return NOON

    async def get(self, month: Month) -> ClosedPeriod | None:
        return self._memory.closed.get(month)

    async def newest(self, *, most: int) -> Sequence[ClosedPeriod]:
        return sorted(self._memory.closed.values(), key=lambda p: p.month, reverse=True)[:most]

    async def add(self, period: ClosedPeriod) -> bool:
        return self._memory.closed.setdefault(period.month, period) is period

    async def given_up(self) -> Mapping[str, datetime]:
        return {}

    async def totals(self, month: Month) -> Totals:
        return Totals(len(self._memory.entries), "0" * 32, [])

    async def entries_at_closing(self, closed: ClosedPeriod) -> tuple[int, str]:
        return closed.totals.events, closed.totals.ids

    async def unpriced(self, month: Month) -> Sequence[Finding]:
        waiting = sum(1 for entry in self._memory.entries.values() if entry.rating is None)
        return [Finding("unpriced", "", waiting)] if waiting else []

    async def to_rerate(self, month: Month) -> Sequence[Finding]:
        return []

    async def late(self, closed: ClosedPeriod, *, most: int) -> LateUsage:
        return LateUsage()


class _Alerts:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def approached(
        self, rules: Sequence[AlertRule], *, since: datetime, until: datetime
    ) -> Sequence[Approach]:
        return self._memory.approaches

    async def note_reached(self, one: Approach, starts_at: datetime) -> bool:
        return True

    async def forget(self, *, before: datetime) -> None:
        return None


class _Effects:
    async def of(self, price: PriceOverride) -> Sequence[PriceEffect]:
        return []

    async def ask_rerating(self, price: PriceOverride) -> None:
        return None

    async def next_rerating(self, *, asked_before: datetime) -> Rerating | None:
        return None

    async def reratings(self) -> Sequence[ReratingProgress]:
        return []

    async def rated_entries(self, rerating: Rerating, *, most: int) -> Sequence[EventId]:
        return []

    async def went_on(
        self, rerating: Rerating, *, after: EventId | None, corrected: int, done: bool
    ) -> None:
        return None


class FixedCounters:
    """Limit counters with given values; without any they are out of reach."""

    def __init__(self, used: dict[str, int] | None, *, told: str | None = None) -> None:
        self._used = used
        self._told = told

    async def told_tier(self, _user_id: UserId) -> str | None:
        return self._told

    async def standing(
        self, _user_id: UserId, tier: Tier, now: datetime
    ) -> Sequence[LimitStanding]:
        if self._used is None:
            raise DependencyUnavailable("cache")
        return [
            LimitStanding(
                window.name,
                vendor_of(window),
                window.limit,
                self._used.get(window.name, 0),
                now + timedelta(minutes=1),
            )
            for window in tier_windows(tier, now)
        ]


class FixedOrganisations:
    """What auth says about who may buy for an organisation; without an answer it is away."""

    def __init__(
        self, may_buy: Mapping[tuple[UUID, UserId], bool] | None = None, *, seats_taken: int = 0
    ) -> None:
        self._may_buy = may_buy
        self._seats_taken = seats_taken

    async def seats_taken(self, organisation_id: UUID, user_id: UserId) -> int | None:
        return self._seats_taken

    async def may_manage_keys(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        return await self.may_buy(organisation_id, user_id)

    async def may_buy(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        if self._may_buy is None:
            raise DependencyUnavailable("account service")
        return self._may_buy.get((organisation_id, user_id))
