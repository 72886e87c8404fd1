"""Months of a billing service's life, lived through its own verbs under a clock that is moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Wanted
from services.billing.domain.errors import SubscriptionNotPaid
from services.billing.domain.payment import PaymentId
from services.billing.domain.subscription import Holder
from shared.db.database import Database
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import UserId
from tests.support.billing import StoppedClock, a_speech, a_usage, id_made_at

STAFF = UserId(UUID(int=7 << 76 | 2 << 62))
DAY = timedelta(days=1)
_OPEN = "select id from payment where holder_id = $1 and state = 'open' order by id desc limit 1"
_MODELS = (
    ("openai", "gpt-6-luna"),
    ("openai", "gpt-5.5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("gemini", "gemini-2.5-flash"),
)


@dataclass
class Life:
    """Billing's verbs, its clock and its database."""

    actions: Actions
    clock: StoppedClock
    database: Database

    async def until(self, moment: datetime, *, paying: Callable[[UUID], bool]) -> None:
        """Let the days pass; who pays, pays on the day."""
        while self.clock.now() < moment:
            self.clock.forward(min(DAY, moment - self.clock.now()))
            await self.actions.advance_subscriptions()
            for row in await self.database.fetch(
                "select id, holder_id from payment where state = 'open' and kind = 'renewal'"
            ):
                if paying(row["holder_id"]):
                    await self.actions.mark_paid(PaymentId(row["id"]), by=STAFF)

    async def buy(
        self, who: UserId, tier: str, seats: int = 1, *, organisation: bool = False
    ) -> None:
        """Choose it and pay for it."""
        holder = Holder(who, is_organisation=organisation)
        try:
            await self.actions.change_subscription(holder, Wanted(tier, seats), by=who)
        except SubscriptionNotPaid as refusal:
            payment = PaymentId(UUID(refusal.facts["payment_id"]))
            await self.actions.mark_paid(payment, by=STAFF)

    async def use(self, facts: Sequence[Fact[UsageRecorded]]) -> None:
        """Record usage, and let the rollups follow."""
        for start in range(0, len(facts), 500):
            await self.actions.record_usage(facts[start : start + 500])
        await self.actions.link_ledger()
        await self.actions.derive_activity()


def a_call(user: UUID, at: datetime, tier: str = "free", **facts: Any) -> Fact[UsageRecorded]:
    """A chat at that moment: 205 micro-dollars."""
    return a_usage(user=user, at=at, id_=id_made_at(at), tier=tier, **facts)


def a_spoken(user: UUID, at: datetime, tier: str = "free", **facts: Any) -> Fact[UsageRecorded]:
    """A speech of an unknown price."""
    return a_speech(user=user, at=at, id_=id_made_at(at), tier=tier, **facts)


async def half_a_year(life: Life, *, newcomers: int, seed: int = 4) -> None:
    """Six months of a young product: more people each month, some of whom pay, some of whom leave.

    The clock has to stand at a month's first moment.
    """
    chance = Random(seed)
    people: list[UserId] = []
    tiers: dict[UserId, str] = {}
    unpaying: set[UUID] = set()
    usage: list[Fact[UsageRecorded]] = []
    began = life.clock.now()
    while (life.clock.now() - began).days < 178:
        month = life.clock.now().month
        grown = newcomers + len(people) // 12
        joining = {chance.randrange(28): 0 for _ in range(3)} | dict.fromkeys(range(28), 0)
        for day in joining:
            joining[day] = round(grown / 28 + chance.random())
        while life.clock.now().month == month and (life.clock.now() - began).days < 178:
            now = life.clock.now()
            for _ in range(joining.get(now.day - 1, 0)):
                new = UserId(id_made_at(now + timedelta(seconds=chance.random() * 1000)))
                people.append(new)
                tiers[new] = "free"
            for who in list(people):
                if chance.random() < (0.012 if tiers[who] == "free" else 0.001):
                    people.remove(who)  # never comes back, and forgets to cancel
                elif tiers[who] == "free" and chance.random() < 0.0035:
                    await life.buy(who, "pro")
                    tiers[who] = "pro"
                elif tiers[who] == "pro" and chance.random() < 0.002:
                    fate = chance.random()
                    if fate < 0.4:
                        unpaying.add(who)
                    elif fate < 0.8:
                        await life.actions.cancel_subscription(Holder(who), by=who)
                        tiers[who] = "leaving"
                    else:
                        await life.buy(who, "enterprise", chance.randrange(2, 6))
                        tiers[who] = "enterprise"
                usage += _a_day(chance, who, tiers[who], now)
            await life.until(now + DAY, paying=lambda holder: holder not in unpaying)
        await life.use(usage)
        usage = []


def _a_day(chance: Random, who: UserId, tier: str, day: datetime) -> list[Fact[UsageRecorded]]:
    weekend = day.weekday() > 4
    busy = {"free": 0.16, "leaving": 0.05}.get(tier, 0.45) * (0.5 if weekend else 1)
    if chance.random() > busy:
        return []
    at = day + timedelta(seconds=chance.randrange(86_000))
    told = tier if tier != "leaving" else "pro"
    if chance.random() < 0.15:
        return [a_spoken(who, at, told)]
    provider, model = chance.choices(_MODELS, (6, 2, 3, 2, 1))[0]
    return [
        a_call(
            *(who, at, told),
            provider=provider,
            model=model,
            input_tokens=chance.randrange(2_000, 60_000),
            cache_read_tokens=0,
            output_tokens=chance.randrange(200, 4_000),
        )
    ]


FIRST = datetime(2026, 6, 1, tzinfo=UTC)
