"""Plans: their doors, their prices, the operator's rules, and what was there before them."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy import create_engine, make_url, text

from services.billing.actions import Actions
from services.billing.actions.change_subscription import Wanted
from services.billing.domain.errors import (
    NoPortal,
    SeatsAssigned,
    SubscriptionNotFound,
)
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder
from services.billing.settings import Settings
from services.billing.wiring import rules_of
from shared.db.database import Database
from shared.db.migrations import alembic_config, upgrade
from shared.ids import UserId
from tests.integration.billing.harness import Billing, actions_on
from tests.integration.billing.plans import DAY, STAFF, buy
from tests.support.billing import FixedOrganisations, StoppedClock
from tests.support.engines import PostgresServer


async def test_charges_can_be_neither_changed_nor_deleted(
    actions: Actions, database: Database, ada: UserId
) -> None:
    await buy(actions, ada, "pro")
    for statement in (
        "update charge set amount_microusd = 0",
        "delete from charge",
        "truncate charge",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(statement)


async def test_no_fewer_seats_than_people_sit_on(
    work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings], ada: UserId
) -> None:
    firm = UserId(uuid4())
    actions = actions_on(
        work,
        settings(),
        clock,
        organisations=FixedOrganisations({(firm, ada): True}, seats_taken=4),
    )
    await actions.grant_subscription(firm, "enterprise", 6, by=STAFF, is_organisation=True)
    holder = Holder(firm, is_organisation=True)
    with pytest.raises(SeatsAssigned) as refusal:
        await actions.change_subscription(holder, Wanted("enterprise", 3), by=ada)
    assert refusal.value.facts == {"assigned": 4}
    fewer = await actions.change_subscription(holder, Wanted("enterprise", 4), by=ada)
    assert fewer.subscription.seats == 4
    with pytest.raises(SubscriptionNotFound):
        await actions.list_charges(holder, by=UserId(uuid4()), after=None, most=5)


async def test_without_a_provider_there_is_no_page_and_nothing_to_catch_up_on(
    actions: Actions, ada: UserId
) -> None:
    with pytest.raises(NoPortal):
        await actions.open_portal(Holder(ada), by=ada)
    assert await actions.catch_up_on_payments() == 0
    assert await actions.tell_payers() == 0


# Doors


async def test_charges_are_shown_page_by_page_and_to_nobody_else(
    billing: Billing, actions: Actions
) -> None:
    ada = UserId(uuid4())
    refused = await billing.send("PUT", "subscription", ada, json={"tier": "pro"})
    payment = refused.json()["payment_id"]
    assert refused.json()["amount_microusd"] == 9_000_000
    stranger = await billing.send("POST", f"admin/payments/{payment}/paid", ada)
    assert stranger.status_code == 403
    paid = await billing.send(
        "POST", f"admin/payments/{payment}/paid", STAFF, role="billing", json={}
    )
    assert (paid.status_code, paid.json()["state"]) == (200, "active")
    more = await billing.send("PUT", "subscription", ada, json={"tier": "enterprise", "seats": 2})
    payment = more.json()["payment_id"]
    await billing.send("POST", f"admin/payments/{payment}/paid", STAFF, role="billing")
    page = (await billing.get("charges", ada, params={"limit": 2})).json()
    assert len(page["data"]) == 2
    rest = (await billing.get("charges", ada, params={"cursor": page["next_cursor"]})).json()
    assert [charge["kind"] for charge in rest["data"]] == ["period_fee"]
    assert rest["data"][0]["amount_usd"] == "9.000000"
    assert (await billing.get("charges", uuid4())).json()["data"] == []
    bad = await billing.get("charges", ada, params={"cursor": "nonsense"})
    assert bad.status_code == 422


async def test_nothing_to_cancel_and_nothing_to_resume(billing: Billing) -> None:
    ada = uuid4()
    for verb, code in (("cancel", "nothing_to_cancel"), ("resume", "nothing_to_resume")):
        answer = await billing.send("POST", f"subscription/{verb}", ada)
        assert (answer.status_code, answer.json()["code"]) == (409, code)


async def test_the_price_of_a_plan_is_set_by_the_billing_team(billing: Billing) -> None:
    body = {
        "tier": "pro",
        "microusd_per_seat_month": 10_000_000,
        "effective_from": "2100-01-01T00:00:00Z",
    }
    made = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=body)
    assert (made.status_code, made.json()["tier"]) == (201, "pro")
    again = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "plan_price_exists")
    odd = {**body, "tier": "gold"}
    refused = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=odd)
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_tier")
    past = {**body, "effective_from": "2026-01-01T00:00:00Z"}
    refused = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=past)
    assert (refused.status_code, refused.json()["code"]) == (422, "effective_from_past")
    # Everybody has it who never chose.
    free = {**body, "tier": "free", "effective_from": "2100-01-02T00:00:00Z"}
    refused = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=free)
    assert (refused.status_code, refused.json()["code"]) == (422, "default_plan_is_free")
    free["microusd_per_seat_month"] = 0  # one that was set before this was refused can be ended
    made = await billing.send("POST", "admin/plan-prices", STAFF, role="billing", json=free)
    assert made.status_code == 201
    plans = (await billing.get("plans", uuid4())).json()["data"]
    assert plans[1]["price_version"] == "tiers/9000000"


# What was there before


def test_who_had_a_tier_before_goes_on_without_a_period(postgres_server: PostgresServer) -> None:
    with postgres_server.fresh_database() as url:
        command.upgrade(alembic_config("billing", url), "0004")
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"))
        insert = text(
            "insert into subscription (user_id, tier, seats, revision) values (:u, :t, 1, :r)"
        )
        with engine.begin() as connection:
            for tier, revision in (("pro", 3), ("free", 2), ("free", 0)):
                connection.execute(insert, {"u": uuid4(), "t": tier, "r": revision})
        upgrade("billing", url)
        with engine.connect() as connection:
            rows = connection.execute(
                text("select tier, state, period_ends from subscription order by revision")
            ).all()
        engine.dispose()
    assert [tuple(row) for row in rows] == [
        ("free", "none", None),
        ("free", "ended", None),
        ("pro", "active", None),
    ]


def test_what_the_operator_decides_is_read_from_the_settings(
    settings: Callable[..., Settings],
) -> None:
    rules = rules_of(settings(dunning_days="5,2,2,0", grace_days=6, trial_days=0, order_days=7))
    assert (rules.retries_after, rules.grace, rules.trial) == ((2 * DAY, 5 * DAY), 6 * DAY, None)
    assert rules.order_stands == 7 * DAY
    for wrong in (
        {"stripe_api_key": "rk_test_x"},
        {"dunning_days": "soon"},
        {
            "stripe_api_key": "rk_test_x",
            "stripe_webhook_secrets": "whsec_x",
            "stripe_return_url": "https://companion.example",
            "stripe_prices": {"pro": "price_x"},
        },
    ):
        with pytest.raises(ValueError) as refusal:
            settings(**wrong)
        assert "rk_test_x" not in str(refusal.value)
