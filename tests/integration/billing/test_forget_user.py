"""Forgetting and exporting a user of billing, on the real PostgreSQL."""

from __future__ import annotations

from uuid import uuid4

from services.billing.actions import Actions
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.harness import drift
from tests.support.billing import a_usage


async def test_the_subscription_ends_and_the_books_stay(
    actions: Actions, database: Database
) -> None:
    ada, grace, staff = (UserId(uuid4()) for _ in range(3))
    for user in (ada, grace):
        await actions.grant_subscription(user, "pro", None, by=staff)
    await actions.record_usage([a_usage(user=ada), a_usage(user=grace)])

    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])

    rows = await database.fetch("select user_id from subscription")
    assert [row["user_id"] for row in rows] == [grace]
    changes = await actions.export_user.changes(ada)
    assert [(change.revision, change.tier_name) for change in changes] == [(1, "pro"), (2, "free")]
    assert len(await database.fetch("select 1 from ledger_entry where user_id = $1", ada)) == 1
    assert await drift(database) == []


async def test_a_subscription_that_comes_late_counts_on_and_is_ended_too(
    actions: Actions, database: Database
) -> None:
    ada, staff = UserId(uuid4()), UserId(uuid4())
    await actions.grant_subscription(ada, "pro", None, by=staff)
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])

    late = await actions.grant_subscription(ada, "pro", None, by=staff)
    assert late.revision == 3
    await actions.forget_user.watch()

    assert await database.fetch("select 1 from subscription") == []
    changes = await actions.export_user.changes(ada)
    assert [change.tier_name for change in changes] == ["pro", "free", "pro", "free"]


async def test_the_export_holds_every_record(actions: Actions) -> None:
    ada = UserId(uuid4())
    usage = [a_usage(user=ada) for _ in range(5)]
    await actions.record_usage([*usage, a_usage()])
    records = [entry async for page in actions.export_user.records(ada) for entry in page]
    assert {entry.event_id for entry in records} == {fact.id for fact in usage}


async def test_no_link_or_visit_of_theirs_is_left(actions: Actions, database: Database) -> None:
    ada, grace = UserId(uuid4()), UserId(uuid4())
    for user in (ada, grace):
        await actions.open_dashboard.enter(await actions.open_dashboard.link(user, uuid4()))
        await actions.open_dashboard.link(user, uuid4())
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    rows = await database.fetch("select user_id, kind from dashboard_pass order by kind")
    assert [(row["user_id"], row["kind"]) for row in rows] == [(grace, "link"), (grace, "visit")]
