"""Forgetting and exporting a user of billing, on the real PostgreSQL."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

from services.billing.actions import Actions
from services.billing.actions.report_outside_usage import Told
from services.billing.domain.outside_usage import OutsideEvent
from services.billing.domain.payment import Booking
from services.billing.domain.ports import NewUnitOfWork
from shared.db.database import Database
from shared.erasure import BATCH, ErasureId, Left
from shared.ids import UserId
from tests.integration.billing.harness import drift
from tests.support.billing import NOON, a_usage

STAFF = UserId(uuid4())


def _told(user: UserId, quantity: str) -> Told:
    """Screenshots, with a word on what was on them; half a one is held."""
    event = OutsideEvent(
        reporter=STAFF,
        source="/screenshots",
        external_id=f"{user}/{quantity}",
        user_id=user,
        occurred_at=NOON,
        meter="screenshot",
        quantity=Decimal(quantity),
        metadata={"window": "Mail"},
    )
    body = {"subject": str(user), "data": {"quantity": quantity, "metadata": {"window": "x"}}}
    return Told(0, event, body)


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


async def test_what_the_team_wrote_beside_payments_goes_and_their_sums_stay(
    actions: Actions, database: Database
) -> None:
    ada, grace = UserId(uuid4()), UserId(uuid4())
    for user in (ada, grace):
        await actions.grant_subscription(user, "pro", None, by=STAFF)
        booking = Booking(user, 1_000, f"transfer-{user}", "by somebody@example.com")
        await actions.book_payment(booking, by=STAFF)

    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])

    rows = await database.fetch("select holder_id, reference, note from payment order by id")
    assert [tuple(row.values()) for row in rows] == [
        (ada, f"transfer-{ada}", None),
        (grace, f"transfer-{grace}", "by somebody@example.com"),
    ]


async def test_what_others_said_beside_the_usage_goes(
    actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    ada, grace = UserId(uuid4()), UserId(uuid4())
    events = [_told(user, quantity) for user in (ada, grace) for quantity in ("1", "0.5")]
    result = await actions.report_outside_usage(events, reporter=STAFF, for_anybody=True)
    assert (result.accepted, len(result.held)) == (2, 2)
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    kept = await database.fetch("select user_id from usage_metadata")
    assert [row["user_id"] for row in kept] == [grace]
    held = await database.fetch("select body from held_usage where body -> 'data' ? 'metadata'")
    assert [row["body"]["subject"] for row in held] == [str(grace)]
    # Of many thousand rows it is all in the end, some at a time.
    await database.execute(
        "insert into usage_metadata select gen_random_uuid(), $1, '{}' from generate_series(1, $2)",
        ada,
        2 * BATCH + 1,
    )
    async with work() as unit:
        assert await actions.forget_user.erase(unit, ada) is Left.MORE
    [left] = await database.fetch("select count(*) from usage_metadata")
    assert left["count"] == 1 + BATCH + 1
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    # Nor does it come back with what comes late.
    await actions.report_outside_usage([_told(ada, "2")], reporter=STAFF, for_anybody=True)
    assert len(await database.fetch("select 1 from usage_metadata")) == 1


async def test_what_is_told_days_later_counts_without_a_word_beside_it(
    actions: Actions, database: Database
) -> None:
    """Nobody looks for them any more: their row was dropped with the last look."""
    ada, grace = UserId(uuid4()), UserId(uuid4())
    await actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    await database.execute("delete from forgotten_user where user_id = $1", ada)

    events = [_told(user, quantity) for user in (ada, grace) for quantity in ("1", "0.5")]
    result = await actions.report_outside_usage(events, reporter=STAFF, for_anybody=True)

    assert (result.accepted, len(result.held)) == (2, 2)
    kept = await database.fetch("select user_id from usage_metadata")
    assert [row["user_id"] for row in kept] == [grace]
    held = await database.fetch("select body from held_usage")
    assert {(row["body"]["subject"], "metadata" in row["body"]["data"]) for row in held} == {
        (str(ada), False),
        (str(grace), True),
    }
    assert len(await database.fetch("select 1 from ledger_entry where user_id = $1", ada)) == 1
    # Told again to the letter it is the same.
    await actions.report_outside_usage(events, reporter=STAFF, for_anybody=True)
    assert len(await database.fetch("select 1 from held_usage where settled_at is null")) == 2


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
