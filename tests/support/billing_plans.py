"""In-memory ports of billing's subscriptions and payments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from services.billing.domain.charge import Charge, ChargeId
from services.billing.domain.payment import (
    News,
    Payer,
    Payment,
    PaymentId,
    PaymentKind,
    PaymentState,
)
from services.billing.domain.plan_price import PlanPrice, PlanPrices
from services.billing.domain.subscription import State, Subscription
from shared.ids import UserId

if TYPE_CHECKING:
    from tests.support.billing import Memory


class MemorySubscriptions:
    """Subscriptions of a Memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(self, user_id: UserId) -> Subscription | None:
        return self._memory.kept.get(user_id)

    async def hold(self, user_id: UserId, *, is_organisation: bool = False) -> Subscription:
        new = Subscription.initial(user_id, is_organisation=is_organisation)
        return self._memory.kept.setdefault(user_id, new)

    async def hold_kept(self, user_id: UserId) -> Subscription | None:
        return None if user_id in self._memory.dissolved else self._memory.kept.get(user_id)

    async def save(self, subscription: Subscription, *, by: UserId) -> None:
        self._memory.kept[subscription.user_id] = subscription
        self._memory.changes.append((subscription, by))

    async def keep_terms(self, subscriptions: Sequence[Subscription]) -> None:
        self._memory.kept |= {one.user_id: one for one in subscriptions}

    async def due(self, now: datetime, *, most: int) -> Sequence[Subscription]:
        due = [s for s in self._memory.kept.values() if s.next_step_at and s.next_step_at <= now]
        return sorted(due, key=lambda s: (s.next_step_at, s.user_id))[:most]

    async def past_due(self, *, after: UserId | None, most: int) -> Sequence[Subscription]:
        found = [s for s in self._memory.kept.values() if s.state is State.PAST_DUE]
        return [s for s in found if after is None or s.user_id > after][:most]

    async def delete(self, user_id: UserId) -> None:
        self._memory.kept.pop(user_id, None)

    async def dissolve(self, organisation_id: UserId, at: datetime) -> None:
        self._memory.dissolved.add(organisation_id)

    async def add_readers(self, organisation_id: UserId, readers: Sequence[UserId]) -> None:
        self._memory.readers |= {(organisation_id, reader) for reader in readers}

    async def is_reader(self, organisation_id: UserId, user_id: UserId) -> bool:
        return (organisation_id, user_id) in self._memory.readers

    async def forget_reader(self, user_id: UserId) -> None:
        self._memory.readers = {one for one in self._memory.readers if one[1] != user_id}

    async def began_a_trial(self, user_id: UserId) -> bool:
        return any(by == user_id and s.state is State.TRIALING for s, by in self._memory.changes)

    async def changes_of(self, user_id: UserId) -> Sequence[Subscription]:
        return [change for change, _ in self._memory.changes if change.user_id == user_id]


class MemoryPlanPrices:
    """Prices of tiers of a Memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def all(self) -> PlanPrices:
        return PlanPrices.of(self._memory.plan_prices)

    async def add(self, price: PlanPrice) -> bool:
        key = (price.tier_name, price.effective_from)
        if any((p.tier_name, p.effective_from) == key for p in self._memory.plan_prices):
            return False
        self._memory.plan_prices.append(price)
        return True


class MemoryCharges:
    """Charges of a Memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def add(self, charges: Sequence[Charge]) -> None:
        known = {charge.effect_key for charge in self._memory.charges}
        assert not known & {charge.effect_key for charge in charges}, "charged twice"
        self._memory.charges += charges

    async def of(self, holder: UserId, *, after: ChargeId | None, most: int) -> Sequence[Charge]:
        found = [c for c in reversed(self._memory.charges) if c.holder == holder]
        return [c for c in found if after is None or c.id < after][:most]


@dataclass
class MemoryPayments:
    """What a Memory knows of payments."""

    payments: dict[PaymentId, Payment] = field(default_factory=dict)
    payers: dict[UserId, Payer] = field(default_factory=dict)
    events: set[tuple[str, str]] = field(default_factory=set)
    cursors: dict[str, str] = field(default_factory=dict)

    async def get(self, payment_id: PaymentId) -> Payment | None:
        return self.payments.get(payment_id)

    async def hold(self, payment_id: PaymentId) -> Payment | None:
        return self.payments.get(payment_id)

    async def forget_notes(self, holder: UserId) -> None:
        for payment in [p for p in self.payments.values() if p.holder == holder]:
            self.payments[payment.id] = replace(payment, note=None)

    async def open_of(self, holder: UserId, kind: PaymentKind) -> Payment | None:
        for payment in self.payments.values():
            if (payment.holder, payment.kind, payment.state) == (holder, kind, PaymentState.OPEN):
                return payment
        return None

    async def by_reference(self, provider: str, reference: str) -> Payment | None:
        for payment in self.payments.values():
            if (payment.provider, payment.reference) == (provider, reference):
                return payment
        return None

    async def add(self, payment: Payment) -> None:
        self.payments[payment.id] = payment

    async def save(self, payment: Payment) -> None:
        self.payments[payment.id] = payment

    async def has_grown(self, order: Payment) -> bool:
        return False

    async def use_grown(self, order: Payment) -> None: ...

    async def void_open(self, holder: UserId, at: datetime) -> None:
        known = await self.open_of(holder, PaymentKind.ORDER)
        if known is not None:
            self.payments[known.id] = known.settled(PaymentState.VOID, at)

    async def unpaid_orders(
        self, holder: UserId, *, before: PaymentId | None, most: int
    ) -> Sequence[Payment]:
        found = [
            p
            for p in self.payments.values()
            if (p.holder, p.kind) == (holder, PaymentKind.ORDER) and p.can_be_paid_by_hand
        ]
        found.sort(key=lambda payment: payment.id, reverse=True)
        return [p for p in found if before is None or p.id < before][:most]

    async def unused(self, *, after: PaymentId | None, most: int) -> Sequence[Payment]:
        found = [p for p in self.payments.values() if p.state is PaymentState.UNUSED]
        return [p for p in found if after is None or p.id > after][:most]

    async def payer(self, holder: UserId) -> Payer | None:
        return self.payers.get(holder)

    async def hold_payer(self, holder: UserId) -> Payer | None:
        return self.payers.get(holder)

    async def payer_of(self, provider: str, customer: str) -> Payer | None:
        for payer in self.payers.values():
            if (payer.provider, payer.customer) == (provider, customer):
                return payer
        return None

    async def keep_payer(self, payer: Payer) -> None:
        self.payers[payer.holder] = payer

    async def note(self, news: News) -> bool:
        key = (news.provider, news.event_id)
        if key in self.events:
            return False
        self.events.add(key)
        return True

    async def cursor(self, provider: str) -> str | None:
        return self.cursors.get(provider)

    async def move_cursor(self, provider: str, event_id: str, at: datetime) -> None:
        self.cursors[provider] = event_id
