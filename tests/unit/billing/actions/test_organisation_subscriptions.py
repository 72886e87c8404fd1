"""An organisation's subscription: who decides about it, and how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.billing.actions.change_subscription import (
    ChangeSubscription,
    GrantSubscription,
    Wanted,
)
from services.billing.actions.end_organisation_subscriptions import (
    Dissolved,
    EndOrganisationSubscriptions,
)
from services.billing.actions.list_charges import ListCharges
from services.billing.actions.show_invoice import is_theirs
from services.billing.actions.show_organisation_subscription import ShowOrganisationSubscription
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.errors import (
    OneSeatOnly,
    OrganisationBillingRequired,
    SubscriptionNotFound,
    SubscriptionNotPaid,
)
from services.billing.domain.ports import Payments
from services.billing.domain.subscription import Holder, State, Subscription
from services.billing.providers.manual import ManualPayments, SandboxPayments
from services.billing.providers.tax import NoTax
from shared.erasure import ErasureId, Forgetting
from shared.errors import DependencyUnavailable
from shared.events.subscription import SubscriptionChanged
from shared.ids import UserId
from tests.support.billing import NOON, FixedOrganisations, Memory, StoppedClock

ADA, GRACE, STRANGER, STAFF = (UserId(uuid4()) for _ in range(4))
FIRM = uuid4()
AS_HOLDER = UserId(FIRM)
KNOWN = FixedOrganisations({(FIRM, ADA): True, (FIRM, GRACE): False})


def changing(
    memory: Memory, organisations: FixedOrganisations = KNOWN, *, sandbox: bool = True
) -> Callable[..., Awaitable[Subscription]]:
    payments: Payments = SandboxPayments() if sandbox else ManualPayments()
    change = ChangeSubscription(
        memory.work, StoppedClock(), organisations, payments, Rules(), NoTax()
    )

    async def choose(firm: UUID, tier: str, seats: int | None, *, by: UserId) -> Subscription:
        holder = Holder(UserId(firm), is_organisation=True)
        return (await change(holder, Wanted(tier, seats), by=by)).subscription

    return choose


async def test_a_change_is_kept_for_the_organisation_and_told_in_its_name() -> None:
    memory = Memory()
    bought = await changing(memory)(FIRM, "enterprise", 12, by=ADA)
    assert (bought.organisation_id, bought.seats) == (FIRM, 12)
    assert await ShowOrganisationSubscription(memory.work, KNOWN)(FIRM, by=ADA) == bought
    assert memory.changes == [(bought, ADA)]
    told = SubscriptionChanged(
        user_id=ADA, tier_name="enterprise", seats=12, revision=1, organisation_id=FIRM
    )
    assert memory.published == [(told, FIRM, "enterprise")]


async def test_an_organisation_that_never_chose_has_the_free_tier() -> None:
    shown = await ShowOrganisationSubscription(Memory().work, KNOWN)(FIRM, by=ADA)
    assert (shown.tier_name, shown.seats, shown.organisation_id) == ("free", 1, FIRM)


@pytest.mark.parametrize(
    ("user", "refusal"),
    [(GRACE, OrganisationBillingRequired), (STRANGER, SubscriptionNotFound)],
)
async def test_who_does_not_decide_neither_sees_nor_changes_it(
    user: UserId, refusal: type[Exception]
) -> None:
    memory = Memory()
    with pytest.raises(refusal):
        await changing(memory)(FIRM, "free", None, by=user)
    with pytest.raises(refusal):
        await ShowOrganisationSubscription(memory.work, KNOWN)(FIRM, by=user)
    assert memory.kept == {}


async def test_while_auth_is_away_nobody_decides() -> None:
    memory, away = Memory(), FixedOrganisations()
    with pytest.raises(DependencyUnavailable):
        await changing(memory, away)(FIRM, "free", None, by=ADA)
    with pytest.raises(DependencyUnavailable):
        await ShowOrganisationSubscription(memory.work, away)(FIRM, by=ADA)


async def test_seats_cost_and_only_some_tiers_have_many() -> None:
    memory = Memory()
    with pytest.raises(SubscriptionNotPaid):
        await changing(memory, sandbox=False)(FIRM, "enterprise", 2, by=ADA)
    with pytest.raises(OneSeatOnly):
        await changing(memory)(FIRM, "pro", 2, by=ADA)
    assert memory.published == []


async def test_the_billing_team_gives_to_either_kind_and_never_mixes_them_up() -> None:
    memory = Memory()
    grant = GrantSubscription(memory.work, StoppedClock())
    given = await grant(AS_HOLDER, "enterprise", 5, by=STAFF, is_organisation=True)
    assert given.organisation_id == FIRM
    with pytest.raises(SubscriptionNotFound):
        await grant(AS_HOLDER, "pro", None, by=STAFF)
    await grant(ADA, "pro", None, by=STAFF)
    with pytest.raises(SubscriptionNotFound):
        await grant(ADA, "enterprise", 5, by=STAFF, is_organisation=True)


async def test_nothing_is_sold_to_an_organisation_that_is_gone() -> None:
    memory = Memory(
        kept={
            AS_HOLDER: Subscription(AS_HOLDER, "enterprise", 9, 3, is_organisation=True),
            ADA: Subscription(ADA, "pro", revision=2),
        }
    )
    end = EndOrganisationSubscriptions(memory.work, StoppedClock())
    for _delivery in range(2):
        await end([Dissolved(of, ADA) for of in (AS_HOLDER, UserId(uuid4()), ADA)])
    ended = memory.kept[AS_HOLDER]
    assert (ended.tier_name, ended.seats, ended.revision) == ("free", 1, 4)
    assert memory.changes == [(ended, ADA)]
    assert memory.kept[ADA].tier_name == "pro"


async def test_who_decided_until_the_end_still_reads_the_books_and_no_more() -> None:
    memory = Memory(
        kept={AS_HOLDER: Subscription(AS_HOLDER, "enterprise", 9, 3, is_organisation=True)},
    )
    await memory.forgotten.add([Forgetting(STAFF, ErasureId(uuid4()), StoppedClock().now())])
    end = EndOrganisationSubscriptions(memory.work, StoppedClock())
    await end([Dissolved(AS_HOLDER, ADA, (GRACE, STAFF))])
    gone = FixedOrganisations({})
    holder = Holder(AS_HOLDER, is_organisation=True)
    charges = ListCharges(memory.work, gone)
    for reader in (ADA, GRACE):
        assert await charges(holder, by=reader, after=None, most=9) == memory.charges
        assert await is_theirs(memory.work, gone, holder, reader)
    for other in (STRANGER, STAFF):
        with pytest.raises(SubscriptionNotFound):
            await charges(holder, by=other, after=None, most=9)
    with pytest.raises(SubscriptionNotFound):
        await ChangeSubscription(
            memory.work, StoppedClock(), gone, ManualPayments(), Rules(), NoTax()
        )(holder, Wanted("enterprise", 2), by=ADA)
    async with memory.work() as work:
        await work.subscriptions.forget_reader(ADA)
    with pytest.raises(SubscriptionNotFound):
        await charges(holder, by=ADA, after=None, most=9)


async def test_fewer_seats_from_the_next_period_on_are_told() -> None:
    memory = Memory(
        kept={
            AS_HOLDER: Subscription(
                AS_HOLDER,
                "enterprise",
                4,
                3,
                is_organisation=True,
                state=State.ACTIVE,
                anchor=NOON,
                period_begins=NOON,
                period_ends=NOON + timedelta(days=30),
                unit_price_microusd=15_000_000,
                price_version="x",
            )
        }
    )
    await changing(memory, sandbox=False)(FIRM, "enterprise", 3, by=ADA)
    [(told, _, _)] = memory.published
    assert isinstance(told, SubscriptionChanged)
    assert (told.seats, told.next_seats) == (4, 3)
