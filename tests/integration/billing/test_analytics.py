"""Figures for decisions, each beside what was worked out by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from services.billing.actions.analyse import Analyse
from services.billing.actions.change_subscription import Wanted
from services.billing.domain.analytics import (
    Churn,
    Conversion,
    Facet,
    Grain,
    Margin,
    Months,
    Retention,
    Revenue,
    Split,
)
from services.billing.domain.charge import Charge, ChargeId, ChargeKind
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder
from services.billing.settings import Settings
from services.billing.storage.analytics import SqlAnalytics
from shared.db.database import Database
from shared.ids import UserId, uuid7
from tests.integration.billing.harness import Billing, actions_on
from tests.support.analytics import STAFF, Life, a_call, a_spoken
from tests.support.billing import (
    FixedOrganisations,
    StoppedClock,
)

JUNE, JULY, AUGUST = date(2026, 6, 1), date(2026, 7, 1), date(2026, 8, 1)
DOLLAR = 1_000_000
REQUEST_COST = 1000


def on(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


BEGINS, ENDS = on(6, 1), on(8, 1)


class _Everybody(FixedOrganisations):
    """Auth as it lets everybody buy."""

    async def may_buy(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        return True


def a_life(work: NewUnitOfWork, database: Database, settings: Callable[..., Settings]) -> Life:
    clock = StoppedClock(BEGINS)
    actions = actions_on(
        work, settings(request_cost_microusd=REQUEST_COST), clock, organisations=_Everybody()
    )
    return Life(actions, clock, database)


@dataclass
class Story:
    """Two months with people whose figures were worked out by hand."""

    life: Life
    ada: UserId  # free; chats and speaks in June, chats in July
    bob: UserId  # free from June 5 on, pro from the 16th on
    voided: UUID  # a call of ada's that was taken back

    @property
    def analyse(self) -> Analyse:
        return self.life.actions.analyse


async def tell(life: Life) -> Story:
    """Pro is 9 dollars a month, enterprise 15 a seat."""
    ada, bob, cy, dan, eve, beta, acme, gil = (UserId(uuid4()) for _ in range(8))
    bad = {dan}

    async def until(moment: datetime) -> None:
        await life.until(moment, paying=lambda holder: holder not in bad)

    await until(on(6, 10))
    await life.buy(beta, "enterprise", 4, organisation=True)
    await until(on(6, 11))
    await life.buy(dan, "pro")
    await until(on(6, 16))
    await life.buy(bob, "pro")
    await until(on(6, 20))
    await life.buy(eve, "pro")
    await until(on(7, 1, 12))
    await life.buy(acme, "enterprise", 2, organisation=True)
    fewer = Holder(beta, is_organisation=True)
    await life.actions.change_subscription(fewer, Wanted("enterprise", 2), by=beta)
    await until(on(7, 5))
    await life.actions.grant_subscription(eve, "free", None, by=STAFF)  # half is given back
    await until(on(7, 17))
    await life.buy(acme, "enterprise", 3, organisation=True)
    await until(ENDS)

    taken_back = a_call(ada, on(7, 4))
    await life.use(
        [
            a_call(bob, on(6, 5)),
            a_call(ada, on(6, 10)),
            a_spoken(ada, on(6, 10, 5)),
            a_call(cy, on(6, 12), sandbox=True),
            a_call(bob, on(6, 20), "pro"),
            a_call(ada, on(7, 3)),
            taken_back,
            a_call(bob, on(7, 2), "pro"),
            a_call(gil, on(7, 8)),
        ]
    )
    assert taken_back.id is not None
    await life.actions.correct_usage(taken_back.id, None, reason="not theirs", by=STAFF)
    await life.actions.note_new_users([(UserId(uuid4()), on(7, 3)), (ada, on(6, 10))])
    await life.use([])
    return Story(life, ada, bob, taken_back.id)


@pytest_asyncio.fixture
async def story(
    work: NewUnitOfWork, database: Database, settings: Callable[..., Settings]
) -> AsyncIterator[Story]:
    yield await tell(a_life(work, database, settings))


async def test_the_figures_are_those_worked_out_by_hand(story: Story) -> None:
    analyse = story.analyse

    # June: beta 21 of 30 days of 60 dollars; of 9 dollars bob 15, dan 20 and eve 11 of 30 days.
    # July: bob 15 of 30 and 16 of 31 days; dan 10 of 30, and what he never paid counts nothing;
    # eve 4 days of what she kept: 5.70 less the 4.50 given back. beta 9 of 30 days of 60 dollars
    # and 22 of 31 of 30; acme 30.5 of 31 days of 30, and of the 15.5 days left then, of which 15
    # are July's, 15 dollars back for 22.50.
    assert await analyse.revenue(BEGINS, ENDS, Split.TIER) == [
        Revenue(JUNE, "enterprise", 60 * DOLLAR, 42_000_000, 60 * DOLLAR, 1, 4),
        Revenue(JUNE, "pro", 27 * DOLLAR, 13_800_000, 27 * DOLLAR, 3, 3),
        Revenue(
            *(JULY, "enterprise", 67_500_000),
            18_000_000 + 21_290_322 + 29_516_129 - 14_516_129 + 21_774_193,
            *(75 * DOLLAR, 2, 5),
        ),
        Revenue(
            *(JULY, "pro", 4_500_000, 4_500_000 + 4_645_161 + 3_000_000 + 1_200_000),
            *(9 * DOLLAR, 1, 1),
        ),
    ]

    # Held when July began: bob, dan and eve for 9 each, beta for 60. Dan was written off, eve left,
    # beta halved its seats, acme is new with three.
    [june, july] = await analyse.churn(BEGINS, ENDS, Split.TOTAL)
    assert (june.at_start, june.new, june.new_microusd) == (0, 4, 87 * DOLLAR)
    assert (june.logo_churn, june.revenue_churn) == (0.0, 0.0)
    assert july == Churn(
        month=JULY,
        tier="all",
        at_start=4,
        left_voluntary=1,
        left_unpaid=1,
        new=1,
        mrr_at_start_microusd=87 * DOLLAR,
        lost_voluntary_microusd=9 * DOLLAR,
        lost_unpaid_microusd=9 * DOLLAR,
        contraction_microusd=30 * DOLLAR,
        expansion_microusd=0,
        new_microusd=45 * DOLLAR,
    )
    assert (july.logo_churn, july.revenue_churn) == (0.5, round(48 / 87, 4))

    # Seen in June: bob, ada, dan, eve; in July: gil, and somebody who only registered. No
    # organisation, and nobody of the sandbox. Bob paid eleven days after his first call.
    assert await analyse.conversion(BEGINS, ENDS, timedelta(days=30)) == [
        Conversion(JUNE, 4, 3, is_complete=True),
        Conversion(JULY, 2, 0, is_complete=False),
    ]
    [in_ten_days, _] = await analyse.conversion(BEGINS, ENDS, timedelta(days=10))
    assert (in_ten_days.converted, in_ten_days.share) == (2, 0.5)
    assert await analyse.cohorts(BEGINS, ENDS) == [
        Retention(JUNE, 4, 0, 2),
        Retention(JUNE, 4, 1, 2),
        Retention(JULY, 2, 0, 1),
    ]


async def test_active_users_costs_and_the_margin(story: Story) -> None:
    analyse = story.analyse

    async def active(grain: Grain, split: Split) -> list[tuple[Any, ...]]:
        found = await analyse.users(BEGINS, ENDS, grain, split)
        return [(one.begins, one.tier, one.service, one.users) for one in found]

    # Bob was pro at last in June.
    assert await active(Grain.MONTH, Split.TIER) == [
        (JUNE, "free", "all", 1),
        (JUNE, "pro", "all", 1),
        (JULY, "free", "all", 2),
        (JULY, "pro", "all", 1),
    ]
    assert await active(Grain.MONTH, Split.SERVICE) == [
        (JUNE, "all", "chat", 2),
        (JUNE, "all", "voice", 1),
        (JULY, "all", "chat", 3),
    ]
    assert [(day, users) for day, *_, users in await active(Grain.DAY, Split.TOTAL)] == [
        (date(2026, 6, 5), 1),
        (date(2026, 6, 10), 1),
        (date(2026, 6, 20), 1),
        (date(2026, 7, 2), 1),
        (date(2026, 7, 3), 1),
        (date(2026, 7, 4), 1),
        (date(2026, 7, 8), 1),
    ]
    # June 29 to July 5: bob and ada.
    assert (date(2026, 6, 29), "all", "all", 2) in await active(Grain.WEEK, Split.TOTAL)

    # Seven chats of 205 micro-dollars, of which one was taken back, and a speech without a price.
    [speech, chats] = await analyse.usage(BEGINS, ENDS, (Facet.PROVIDER, Facet.OPERATION))
    assert (chats.keys[Facet.PROVIDER], chats.requests, chats.vendor_cost_microusd) == (
        *("openai", 6),
        6 * 205,
    )
    assert (speech.requests, speech.unpriced_requests, speech.vendor_cost_microusd) == (1, 1, None)
    assert await analyse.margin(BEGINS, ENDS, Split.TOTAL) == [
        Margin(JUNE, "all", 55_800_000, 0, 4, 4 * REQUEST_COST),
        Margin(JULY, "all", 76_064_515 + 13_345_161, 0, 3, 3 * REQUEST_COST),
    ]
    [june, _] = await analyse.margin(BEGINS, ENDS, Split.TOTAL)
    assert june.margin_microusd == 55_796_000


async def test_rollups_count_each_record_once_and_a_later_price(
    story: Story, work: NewUnitOfWork, database: Database
) -> None:
    life = story.life
    assert await life.actions.derive_activity() == 0
    await life.actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        _speech_price(),
        effective_from=BEGINS,
        by=STAFF,
        rerate=False,
    )
    await life.actions.rate_unpriced_usage()
    await life.use([])

    [speech] = [
        one
        for one in await life.actions.analyse.usage(BEGINS, ENDS, (Facet.SERVICE,))
        if one.keys[Facet.SERVICE] == "voice"
    ]
    assert (speech.requests, speech.unpriced_requests) == (1, 0)
    assert speech.vendor_cost_microusd == 50_000
    differing = await database.fetch(
        """
        select provider, model, operation, day, sum(requests), sum(unpriced_requests),
               sum(input_tokens), sum(characters), sum(cost_microusd)
        from usage_day where not sandbox group by 1, 2, 3, 4
        except
        select provider, model, operation, day, sum(requests), sum(unpriced_requests),
               sum(input_tokens), sum(characters), sum(cost_microusd)
        from usage_total group by 1, 2, 3, 4
        """
    )
    assert differing == []


def _speech_price() -> Any:
    from services.billing.domain.price_book import UnitPrices

    return UnitPrices(characters=50_000_000)


async def test_what_is_earned_over_time_is_what_was_charged(work: NewUnitOfWork) -> None:
    chance = Random(7)
    charges = [_any_charge(chance) for _ in range(200)]
    async with work() as unit:
        await unit.charges.add(charges)
        found = await unit.analytics.revenue(
            Months(date(2026, 1, 1), date(2026, 12, 1), on(12, 31))
        )
    for tier in ("pro", "enterprise"):
        due = sum(one.amount_microusd for one in charges if one.tier_name == tier)
        assert sum(one.recognised_microusd for one in found if one.tier == tier) == due
        assert sum(one.charged_microusd for one in found if one.tier == tier) == due


def _any_charge(chance: Random) -> Charge:
    begins = on(1, 1) + timedelta(seconds=chance.randrange(250 * 86_400))
    kind = chance.choice(list(ChargeKind))
    amount = chance.randrange(1, 10**9)
    is_debit = kind in (ChargeKind.PERIOD_FEE, ChargeKind.PRORATION_DEBIT)
    return Charge(
        id=ChargeId(uuid7()),
        holder=UserId(uuid4()),
        is_organisation=chance.random() < 0.5,
        kind=kind,
        tier_name=chance.choice(["pro", "enterprise"]),
        seats=1,
        unit_price_microusd=amount,
        price_version="tests/1",
        begins=begins,
        ends=begins + timedelta(seconds=chance.randrange(1, 31 * 86_400)),
        amount_microusd=amount if is_debit else -amount,
        effect_key=str(uuid4()),
        revision=1,
        charged_at=begins + timedelta(seconds=chance.randrange(40 * 86_400)),
    )


async def test_a_month_has_no_more_users_than_its_days_together(
    work: NewUnitOfWork, database: Database, settings: Callable[..., Settings]
) -> None:
    chance = Random(11)
    life = a_life(work, database, settings)
    users = [uuid4() for _ in range(9)]
    await life.use(
        [
            chance.choice([a_call, a_spoken])(
                chance.choice(users),
                BEGINS + timedelta(hours=chance.randrange(60 * 24)),
                chance.choice(["free", "pro"]),
                sandbox=chance.random() < 0.2,
            )
            for _ in range(150)
        ]
    )
    life.clock.forward(ENDS - BEGINS)
    found = {}
    for grain in Grain:
        for split in Split:
            parts = await life.actions.analyse.users(BEGINS, ENDS, grain, split)
            found[grain, split] = _sums(parts)
    for grain in Grain:
        assert found[grain, Split.TIER] == found[grain, Split.TOTAL]
        services = found[grain, Split.SERVICE]
        assert all(users <= services[begins] for begins, users in found[grain, Split.TOTAL].items())
    months, days = found[Grain.MONTH, Split.TOTAL], found[Grain.DAY, Split.TOTAL]
    for month, users_then in months.items():
        of_days = [count for day, count in days.items() if day.replace(day=1) == month]
        assert max(of_days) <= users_then <= sum(of_days)


async def test_a_past_month_has_nothing_of_the_day_after_it(
    work: NewUnitOfWork, database: Database, settings: Callable[..., Settings]
) -> None:
    life = a_life(work, database, settings)
    ada = uuid4()
    await life.use([a_call(ada, on(6, 30, 23)), a_call(ada, on(7, 1)), a_call(ada, on(7, 1, 23))])
    life.clock.forward(ENDS - BEGINS)
    june = life.actions.analyse
    [margin] = await june.margin(BEGINS, on(7, 1), Split.TOTAL)
    assert (margin.month, margin.requests) == (JUNE, 1)
    overview = await june.overview(BEGINS, on(7, 1))
    assert [cost.requests for cost in overview.costs] == [1]
    assert [one.begins for one in overview.active] == [date(2026, 6, 30)]
    assert [one.begins for one in overview.monthly_active] == [JUNE]


def _sums(parts: Any) -> dict[date, int]:
    sums: dict[date, int] = {}
    for part in parts:
        sums[part.begins] = sums.get(part.begins, 0) + part.users
    return sums


async def test_without_anything_there_are_zeros(
    work: NewUnitOfWork, database: Database, settings: Callable[..., Settings]
) -> None:
    life = a_life(work, database, settings)
    analyse = life.actions.analyse
    assert await analyse.revenue(None, None, Split.TIER) == []
    assert await analyse.churn(None, None, Split.TOTAL) == []
    assert await analyse.margin(None, None, Split.TOTAL) == []
    assert await analyse.users(None, None, Grain.DAY, Split.TIER) == []
    assert await analyse.usage(None, None, ()) == []
    [one, *_] = await analyse.conversion(None, None, timedelta(days=30))
    assert (one.users, one.share) == (0, 0.0)
    assert all(part.share == 0.0 for part in await analyse.cohorts(None, None))


STAFF_PATHS = (
    "revenue",
    "usage",
    *(f"analytics/{name}" for name in ("users", "conversion", "churn", "margin")),
    *(f"analytics/{name}" for name in ("cohorts", "costs")),
)


@pytest.mark.parametrize("path", STAFF_PATHS)
async def test_each_is_for_the_billing_team_as_json_and_csv(billing: Billing, path: str) -> None:
    someone = uuid4()
    assert (await billing.send("GET", f"admin/{path}", someone)).status_code == 403
    answer = await billing.send("GET", f"admin/{path}", someone, role="billing")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"data"}
    headers = {**billing.mint.headers(someone, role="billing"), "accept": "text/csv"}
    file = await billing.public.get(f"/billing/admin/{path}", headers=headers)
    assert file.headers["content-type"].startswith("text/csv")
    head = next(csv.reader(io.StringIO(file.text)))
    assert len(head) > 3
    # The columns stay those that they were.
    in_dollars = ["vendor_cost_usd"] if path.endswith("costs") else []
    assert [name for name in head if "_usd" in name] == in_dollars


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("revenue?from=2026-07-01&to=2026-06-01", "bad_period"),
        ("revenue?from=2020-01-01", "bad_period"),
        ("revenue?from=2101-01-01", "bad_period"),
        ("revenue?from=yesterday", "bad_period"),
        ("revenue?from=0001-01-01", "bad_period"),
        ("revenue?by=service", "bad_analysis"),
        ("usage?from=2020-01-01", "bad_period"),
        ("usage?from=9998-01-01&to=9998-01-01T00:00:00Z", "bad_period"),
        ("usage?by=user_id", "bad_analysis"),
        ("usage?by=day,day", "bad_analysis"),
        ("analytics/costs?by=;drop", "bad_analysis"),
        ("analytics/users?grain=hour", "bad_analysis"),
        ("analytics/users?by=model", "bad_analysis"),
        ("analytics/churn?by=service", "bad_analysis"),
    ],
)
async def test_what_cannot_be_worked_out_is_refused_with_a_reason(
    billing: Billing, query: str, code: str
) -> None:
    answer = await billing.send("GET", f"admin/{query}", uuid4(), role="billing")
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_spreadsheet_runs_nothing_of_a_file(
    billing: Billing, work: NewUnitOfWork, database: Database
) -> None:
    at = datetime.now(UTC)
    await billing.record(a_call(uuid4(), at, model="=HYPERLINK(1)", provider="openai"))
    await _catch_up(billing)
    headers = {**billing.mint.headers(uuid4(), role="billing"), "accept": "text/csv"}
    file = await billing.public.get("/billing/admin/analytics/costs", headers=headers)
    assert "'=HYPERLINK(1)" in file.text
    listed = await billing.send("GET", "admin/analytics/costs", uuid4(), role="billing")
    [row] = [one for one in listed.json()["data"] if one["model"] == "=HYPERLINK(1)"]
    assert row["vendor_cost_microusd"] is None
    assert row["unpriced_requests"] == 1
    assert "tier" not in row


async def _catch_up(billing: Billing) -> None:
    from services.billing.storage.unit_of_work import SqlWork

    actions = actions_on(
        lambda: SqlWork(billing.database), billing.settings, StoppedClock(datetime.now(UTC))
    )
    await actions.link_ledger()
    await actions.derive_activity()


async def test_each_look_is_planned_for_its_own_span(database: Database) -> None:
    """PostgreSQL's plan for any values, which it would take from some time on, is several times as
    slow here."""
    months = Months(JUNE, AUGUST, ENDS)
    async with database.connection() as connection:
        # As if that time had come.
        await connection.execute("set plan_cache_mode = force_generic_plan")
        try:
            for _ in range(2):
                async with connection.transaction():
                    known = SqlAnalytics(connection)
                    await known.churn(months)
                    await known.retention(months)
            plans = await connection.fetch(
                "select generic_plans, custom_plans from pg_prepared_statements"
                " where statement like '%from month m%' and statement not like '%pg_prepared%'"
            )
        finally:
            await connection.execute("reset plan_cache_mode")
    assert plans
    assert {row["generic_plans"] for row in plans} == {0}
    assert all(row["custom_plans"] >= 2 for row in plans)
