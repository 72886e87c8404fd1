"""Whatever order Stripe's events come in, the same is held and the same was paid, to the cent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Wanted
from services.billing.actions.receive_payment_news import ReceivePaymentNews
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.errors import (
    NothingToCancel,
    NothingToResume,
    PaymentDeclined,
    PaymentOutstanding,
    PaymentsUnavailable,
    SubscriptionNotPaid,
)
from services.billing.domain.payment import News
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder
from services.billing.settings import Settings
from shared.db.database import Database
from shared.ids import UserId
from tests.integration.billing.harness import actions_on
from tests.support.billing import FixedPrices, StoppedClock
from tests.support.stripe_account import StripeAccount

BEGINS = datetime(2026, 1, 31, 10, tzinfo=UTC)
_LISTED = {"pro": 9_000_000, "enterprise": 15_000_000}
_REFUSALS = (
    NothingToCancel,
    NothingToResume,
    PaymentDeclined,
    PaymentOutstanding,
    PaymentsUnavailable,
    SubscriptionNotPaid,
)


@dataclass
class Life:
    """One holder who pays by Stripe."""

    actions: Actions
    receive: ReceivePaymentNews
    stripe: StripeAccount
    clock: StoppedClock
    database: Database
    who: UserId = field(default_factory=lambda: UserId(uuid4()))

    async def after(self, step: timedelta) -> None:
        self.clock.forward(step)
        self.stripe.advance()
        await self.actions.advance_subscriptions()

    async def choose(self, tier: str, seats: int = 1, *, lost: bool = False) -> None:
        self.stripe.loses_answers = lost
        try:
            await self.actions.change_subscription(
                Holder(self.who), Wanted(tier, seats), by=self.who
            )
        except _REFUSALS:
            pass
        finally:
            self.stripe.loses_answers = False

    async def cancel(self) -> None:
        with suppress(NothingToCancel):
            await self.actions.cancel_subscription(Holder(self.who), by=self.who)

    async def resume(self) -> None:
        with suppress(NothingToResume):
            await self.actions.resume_subscription(Holder(self.who), by=self.who)

    async def buy(self, tier: str, seats: int) -> None:
        await self.choose(tier, seats)
        [session] = [s for s in self.stripe.sessions.values() if s.is_open]
        self.stripe.complete(session)
        await self.hear(self.stripe.untold)

    async def hear(self, news: Sequence[News]) -> None:
        self.stripe.untold = [one for one in self.stripe.untold if one not in news]
        for one in news:
            await self.receive(one)

    async def come_to_rest(self) -> None:
        """All is told, on both sides."""
        for _round in range(12):
            await self.actions.advance_subscriptions()
            try:
                told = await self.actions.tell_payers()
            except PaymentsUnavailable:
                told = 1
            if not told and not self.stripe.untold:
                return
            await self.hear(self.stripe.untold)
        raise AssertionError("the two never agree")

    async def held(self) -> dict[str, Any]:
        row = await self.database.fetchrow(
            "select tier, seats, state, cancels, next_tier, next_seats, owed_microusd, paid_ahead,"
            " period_begins, period_ends, unit_price_microusd, unpaid_since, dunning_step"
            " from subscription where user_id = $1",
            self.who,
        )
        return dict(row) if row else {}

    async def books(self) -> tuple[Any, ...]:
        charges = await self.database.fetch(
            "select kind, tier, seats, begins, ends, amount_microusd from charge"
            " where holder_id = $1",
            self.who,
        )
        payments = await self.database.fetch(
            "select kind, state, amount_microusd from payment where holder_id = $1", self.who
        )
        paid = [row for row in payments if row["state"] in ("paid", "unused")]
        return (
            sum(row["amount_microusd"] for row in charges),
            Counter(tuple(row.values()) for row in paid),
        )


Step = tuple[Any, ...]


def a_script(random_: random.Random) -> list[Step]:
    """What happens at a holder's and at Stripe, of which nothing is heard before its end."""
    seats = random_.randrange(1, 4)
    tier = random_.choice(("pro", "enterprise", "enterprise"))
    steps: list[Step] = [("buy", tier, seats if tier == "enterprise" else 1)]
    for _ in range(random_.randrange(1, 6)):
        act = random_.choices(
            ("lost", "more", "less", "cancel", "resume", "tell", "page"),
            weights=(6, 2, 3, 2, 2, 2, 1),
        )[0]
        steps.append(("wait", random_.choice((60, 3_600, 86_400, 5 * 86_400))))
        if act in ("lost", "more", "less"):
            steps.append((act, "enterprise", random_.randrange(1, 7)))
        else:
            steps.append((act,))
    if random_.random() < 0.8:
        steps.append(("turn", random_.random() < 0.5, random_.randrange(60, 3 * 86_400)))
        for _ in range(random_.randrange(3)):
            steps.append((random_.choice(("card", "tell")),))
            steps.append(("wait", random_.choice((60, 86_400))))
        if random_.random() < 0.3:
            steps.append(("lost", "enterprise", random_.randrange(1, 7)))
    return steps


async def live(life: Life, script: Sequence[Step]) -> None:
    for act, *about in script:
        if act == "buy":
            await life.buy(*about)
        elif act == "wait":
            await life.after(timedelta(seconds=about[0]))
        elif act in ("lost", "more", "less"):
            await life.choose(*about, lost=act == "lost")
        elif act == "cancel":
            await life.cancel()
        elif act == "resume":
            await life.resume()
        elif act == "tell":
            with suppress(PaymentsUnavailable):
                await life.actions.tell_payers()
        elif act == "page":
            for of in life.stripe.of(life.who):
                life.stripe.end_on_its_page(of, is_ending=not of.is_ending)
        elif act == "turn":
            life.stripe.pays = partial(bool, about[0])
            [*ends] = [of.ends for of in life.stripe.of(life.who)] or [life.clock.now()]
            await life.after(max(ends[0] - life.clock.now(), timedelta()))
            life.stripe.pays = lambda: True
            await life.after(timedelta(seconds=about[1]))
        elif act == "card":
            for of in life.stripe.of(life.who):
                if of.open_invoice is not None:
                    life.stripe.pay_open(of)


@pytest.fixture
def new_life(
    work: NewUnitOfWork, database: Database, settings: Callable[..., Settings]
) -> Callable[[], Life]:
    def make() -> Life:
        clock = StoppedClock(BEGINS)
        stripe = StripeAccount(clock.now, lambda tier, _at: _LISTED[tier])
        actions = actions_on(work, settings(), clock, list_prices=FixedPrices(), payments=stripe)
        return Life(actions, ReceivePaymentNews(work, clock, Rules()), stripe, clock, database)

    return make


async def end_of(life: Life) -> tuple[Any, ...]:
    """What is held and what was paid; then the holder is left alone by later lives' clocks."""
    await life.come_to_rest()
    ending = (await life.held(), await life.books())
    await life.database.execute("update subscription set next_step_at = null")
    await life.database.execute("delete from payer")
    await life.database.execute("delete from spare_subscription")
    return ending


async def in_every_order(new_life: Callable[[], Life], seed: int, orders: int) -> None:
    random_ = random.Random(seed)
    script = a_script(random_)
    endings = []
    for order in range(orders):
        life = new_life()
        await live(life, script)
        told = list(life.stripe.untold)
        if order == 1:
            told.reverse()
        elif order:
            told += random_.choices(told, k=len(told) // 2)
            random_.shuffle(told)
        life.stripe.untold.clear()
        for one in told:
            await life.receive(one)
        collected = life.stripe.collected[life.who] * 10_000
        ending = await end_of(life)
        paid = sum(
            amount * times
            for (kind, _state, amount), times in ending[1][1].items()
            if kind in ("order", "renewal")
        )
        assert paid == collected, (seed, order, script, [n.kind for n in told], ending)
        endings.append((ending, [(one.kind.value, one.seats) for one in told]))
    for ending, told_ in endings[1:]:
        assert ending == endings[0][0], (seed, script, told_, endings[0][1])


# Several lost changes, a page of Stripe's, renewals that fail and are paid, and plans beside them.
@pytest.mark.parametrize("seed", [9, 15, 17, 27, 30, 32])
async def test_every_order_of_events_ends_the_same(new_life: Callable[[], Life], seed: int) -> None:
    await in_every_order(new_life, seed, orders=4)


@pytest.mark.parametrize("is_told_late", [False, True])
async def test_what_was_given_back_is_no_part_of_a_change_after_it(
    new_life: Callable[[], Life], is_told_late: bool
) -> None:
    """Its money waits for the billing team, whenever it is told."""
    life = new_life()
    await life.buy("enterprise", 5)
    await life.after(timedelta(days=1))
    await life.choose("enterprise", 10, lost=True)
    lost = list(life.stripe.untold)
    await life.choose("enterprise", 3)
    await life.actions.tell_payers()
    [of] = life.stripe.of(life.who)
    await life.after(of.ends - life.clock.now())
    await life.hear([one for one in life.stripe.untold if one not in lost])
    await life.after(timedelta(days=1))
    if not is_told_late:
        await life.hear(lost)
    await life.choose("enterprise", 8)
    await life.come_to_rest()
    assert (await life.held())["seats"] == 8
    orders = await life.database.fetch(
        "select seats, state from payment where holder_id = $1 and kind = 'order' order by id",
        life.who,
    )
    assert [tuple(row.values()) for row in orders] == [(5, "paid"), (10, "unused"), (8, "paid")]


async def test_news_of_the_second_in_which_we_told_an_end_does_not_take_it_back(
    new_life: Callable[[], Life],
) -> None:
    """A renewal is paid just before Stripe is told that the holder has cancelled."""
    life = new_life()
    await life.buy("enterprise", 2)
    await life.after(timedelta(days=1))
    await life.choose("enterprise", 4, lost=True)
    [of] = life.stripe.of(life.who)
    life.stripe.pays = lambda: False
    await life.after(of.ends - life.clock.now())
    life.stripe.pays = lambda: True
    await life.after(timedelta(minutes=1))
    await life.cancel()
    # The clock collects again, and all is told within this second.
    await life.after(timedelta(days=1))
    assert of.open_invoice is None
    await life.actions.tell_payers()
    await life.come_to_rest()
    assert (await life.held())["cancels"] is True
    assert of.is_ending


async def test_of_two_facts_at_once_the_second_knows_what_the_first_left(
    new_life: Callable[[], Life],
) -> None:
    """Cancelled and taken back at Stripe's page, and told at once, the newer one first."""
    life = new_life()
    await life.buy("enterprise", 2)
    [of] = life.stripe.of(life.who)
    for is_ending in (True, False):
        await life.after(timedelta(hours=1))
        life.stripe.end_on_its_page(of, is_ending=is_ending)
    older, newer = life.stripe.untold
    async with life.database.connection() as connection, connection.transaction():
        await connection.execute("select from subscription where user_id = $1 for update", life.who)
        told = []
        for one in (newer, older):
            told.append(asyncio.create_task(life.receive(one)))
            await until_waiting(life.database, len(told))
    assert await asyncio.gather(*told) == [True, True]
    assert (await life.held())["cancels"] is False


async def until_waiting(database: Database, many: int) -> None:
    """Until so many of others wait for a row."""
    async with asyncio.timeout(60):
        while True:
            row = await database.fetchrow(
                "select count(*) as many from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            if row is not None and row["many"] >= many:
                return
            await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
async def test_many_lives_end_the_same_in_every_order(
    new_life: Callable[[], Life], seed: int
) -> None:
    await in_every_order(new_life, seed, orders=6)
