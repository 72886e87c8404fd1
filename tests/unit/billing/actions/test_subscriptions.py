"""Tiers change hands: at once in a sandbox, against payment elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import uuid4

import pytest

from services.billing.actions.change_subscription import (
    ChangeSubscription,
    GrantSubscription,
    Wanted,
)
from services.billing.actions.prepare_ledger import PrepareLedger
from services.billing.actions.show_limits import ShowLimits
from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.errors import OneSeatOnly, SubscriptionNotPaid
from services.billing.domain.ports import Payments
from services.billing.domain.subscription import Holder, Subscription
from services.billing.domain.tax import Taxable, TaxLine, net_cents
from services.billing.providers.manual import ManualPayments, SandboxPayments
from services.billing.providers.tax import NoTax
from shared.errors import DependencyUnavailable
from shared.events.subscription import SubscriptionChanged
from shared.ids import UserId
from shared.limits.tier_windows import tier_windows
from shared.tiers import TIERS
from tests.support.billing import NOON, FixedCounters, FixedOrganisations, Memory, StoppedClock

ADA, STAFF = UserId(uuid4()), UserId(uuid4())


def changing(
    memory: Memory, *, sandbox: bool
) -> Callable[[UserId, str, int | None], Awaitable[Subscription]]:
    payments: Payments = SandboxPayments() if sandbox else ManualPayments()
    change = ChangeSubscription(
        memory.work, StoppedClock(), FixedOrganisations(), payments, Rules(), NoTax()
    )

    async def choose(user: UserId, tier: str, seats: int | None) -> Subscription:
        return (await change(Holder(user), Wanted(tier, seats), by=user)).subscription

    return choose


async def test_in_a_sandbox_a_change_takes_effect_at_once_and_is_told() -> None:
    memory = Memory()
    pro = await changing(memory, sandbox=True)(ADA, "pro", None)
    assert await ShowSubscription(memory.work)(ADA) == pro
    assert memory.changes == [(pro, ADA)]
    assert memory.published == [
        (SubscriptionChanged(user_id=ADA, tier_name="pro", seats=1, revision=1), ADA, "pro")
    ]


class _NineteenPercent:
    def tax_for(
        self, details: BillingDetails | None, lines: Sequence[Taxable], at: datetime
    ) -> Sequence[TaxLine]:
        return [TaxLine.at_rate("VAT", 1_900, net_cents(lines))]


async def test_who_pays_by_transfer_is_told_what_the_invoice_will_come_to() -> None:
    memory = Memory()
    change = ChangeSubscription(
        memory.work,
        StoppedClock(),
        FixedOrganisations(),
        ManualPayments(),
        Rules(),
        _NineteenPercent(),
    )
    with pytest.raises(SubscriptionNotPaid) as refusal:
        await change(Holder(ADA), Wanted("pro"), by=ADA)
    facts = refusal.value.facts
    assert (facts["net_cents"], facts["tax_cents"], facts["total_cents"]) == (900, 171, 1_071)


async def test_elsewhere_somebody_has_to_pay_first() -> None:
    memory = Memory()
    with pytest.raises(SubscriptionNotPaid) as refusal:
        await changing(memory, sandbox=False)(ADA, "pro", None)
    assert refusal.value.code == "subscription_not_paid"
    assert refusal.value.facts["price_microusd_per_month"] == 9_000_000
    assert memory.published == []
    assert (await ShowSubscription(memory.work)(ADA)).tier_name == "free"


async def test_less_needs_no_payment() -> None:
    memory = Memory(kept={ADA: Subscription(ADA, "enterprise", seats=3, revision=4)})
    change = changing(memory, sandbox=False)
    assert (await change(ADA, "pro", None)).revision == 5
    assert (await change(ADA, "free", None)).revision == 6


async def test_more_seats_need_payment() -> None:
    memory = Memory(kept={ADA: Subscription(ADA, "enterprise", seats=3, revision=4)})
    with pytest.raises(SubscriptionNotPaid):
        await changing(memory, sandbox=False)(ADA, "enterprise", 4)


async def test_the_same_again_tells_nobody() -> None:
    memory = Memory(kept={ADA: Subscription(ADA, "pro", revision=4)})
    assert (await changing(memory, sandbox=True)(ADA, "pro", 1)).revision == 4
    assert (memory.published, memory.changes) == ([], [])


async def test_the_billing_team_grants_without_a_payment() -> None:
    memory = Memory()
    grant = GrantSubscription(memory.work, StoppedClock())
    granted = await grant(ADA, "enterprise", 10, by=STAFF)
    assert (granted.tier_name, granted.seats, granted.revision) == ("enterprise", 10, 1)
    assert memory.changes == [(granted, STAFF)]
    with pytest.raises(OneSeatOnly):
        await grant(ADA, "pro", 2, by=STAFF)


async def test_limits_are_those_of_the_present_tier() -> None:
    memory = Memory(kept={ADA: Subscription(ADA, "pro", revision=1)})
    counters = FixedCounters({"openai.requests_per_day": 12, "openai.requests_per_minute": 999})
    show = ShowLimits(ShowSubscription(memory.work), counters, memory.work, StoppedClock())
    standings = await show(ADA, claimed=TIERS["free"])
    by_name = {standing.name: standing for standing in standings}
    day = by_name["openai.requests_per_day"]
    assert (day.limit, day.used, day.remaining) == (500, 12, 488)
    assert by_name["openai.requests_per_minute"].remaining == 0
    assert by_name["anthropic.requests_per_day"].used == 0


async def test_limits_are_not_guessed_while_their_counters_are_away() -> None:
    work = Memory().work
    show = ShowLimits(ShowSubscription(work), FixedCounters(None), work, StoppedClock())
    with pytest.raises(DependencyUnavailable):
        await show(ADA, claimed=TIERS["free"])


@pytest.mark.parametrize(
    ("own", "claimed", "told", "expected"),
    [
        ("free", "enterprise", None, "enterprise"),  # a seat that the token knows of
        ("free", "free", "enterprise", "enterprise"),  # a seat given a moment ago
        ("free", "enterprise", "free", "free"),  # a seat lost a moment ago
        ("pro", "free", "free", "pro"),  # bought before auth has heard of it
        ("pro", "enterprise", "-", "pro"),
    ],
)
async def test_limits_are_those_that_requests_are_admitted_by(
    own: str, claimed: str, told: str | None, expected: str
) -> None:
    memory = Memory(kept={ADA: Subscription(ADA, own, revision=1)})
    counters = FixedCounters({}, told=told)
    show = ShowLimits(ShowSubscription(memory.work), counters, memory.work, StoppedClock())
    standings = await show(ADA, claimed=TIERS[claimed])
    names = [window.name for window in tier_windows(TIERS[expected], NOON)]
    assert [standing.name for standing in standings] == [*names, "monthly_spend"]


async def test_room_is_made_for_this_month_and_three_more() -> None:
    memory = Memory(strays=4)
    assert await PrepareLedger(memory.work, StoppedClock())() == 4
    assert [month.strftime("%Y-%m-%d") for month in memory.months] == [
        "2026-11-01",
        "2026-12-01",
        "2027-01-01",
        "2027-02-01",
    ]
