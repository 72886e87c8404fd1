"""Chat's statements on the real PostgreSQL: settled once, whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.chat.actions.settle_turn import usage_fact
from services.chat.domain.conversation import MessageId, MessageStatus
from services.chat.domain.known_key import KnownKey, RevokedKey
from services.chat.domain.turn import Hold, Outcome, Settlement, TurnId
from services.chat.domain.usage import Usage
from services.chat.storage.tables import metadata
from services.chat.storage.turns import SqlTurns
from services.chat.storage.unit_of_work import SqlWork
from shared.db.database import Database, open_database
from shared.db.engine import sync_engine
from shared.ids import EventId, UserId, uuid7
from shared.settings import service_database_url
from tests.support.chat import a_session


@pytest.fixture(scope="module")
async def database(migrated: Callable[[str], str]) -> AsyncIterator[Database]:
    url = service_database_url(migrated("chat"), "chat")
    async with open_database(url, connections=8, application="test") as opened:
        yield opened


async def a_hold(database: Database, **parts: object) -> Hold:
    """A hold that is written, in a session of a new user."""
    now = datetime.now(UTC)
    session = a_session(UserId(uuid4()), created_at=now, updated_at=now)
    async with SqlWork(database) as work:
        await work.sessions.add(session)
    hold = Hold(
        id=TurnId(uuid7()),
        user_id=session.user_id,
        session_id=session.id,
        question_id=MessageId(uuid7()),
        answer_id=MessageId(uuid7()),
        usage_event_id=EventId(uuid7()),
        request_id="request-1",
        tier="free",
        provider="openai",
        model="gpt-6-luna",
        input_estimate=7,
        created_at=now,
        lease_expires_at=now + timedelta(seconds=30),
    )
    hold = replace(hold, **parts)  # type: ignore[arg-type]
    assert await SqlTurns(database).hold(hold, "What is this?", sandbox=True)
    return hold


def a_settlement(outcome: Outcome = Outcome.DONE, text: str = "This.") -> Settlement:
    return Settlement(
        outcome=outcome,
        text=text,
        usage=Usage(input_tokens=7, output_tokens=2),
        model="gpt-6-luna-2026",
        provider_request_id="chatcmpl-1",
        processing_time_ms=12,
        cost_microusd=5,
        price_version="test",
    )


async def outbox_count(database: Database, hold: Hold) -> int:
    row = await database.fetchrow(
        "select count(*) from outbox where event_id = $1", hold.usage_event_id
    )
    assert row is not None
    return int(row["count"])


def test_migrations_make_what_the_tables_say(migrated: Callable[[str], str]) -> None:
    engine = sync_engine(service_database_url(migrated("chat"), "chat"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_of_many_settlements_one_counts(database: Database) -> None:
    hold, turns = await a_hold(database), SqlTurns(database)

    async def settle(outcome: Outcome) -> bool:
        settlement = a_settlement(outcome)
        return await turns.settle(hold, settlement, usage_fact(hold, settlement, sandbox=True))

    outcomes = [Outcome.DONE, Outcome.CLIENT_GONE, Outcome.REPLICA_LOST] * 4
    taken = await asyncio.gather(*(settle(outcome) for outcome in outcomes))

    assert sum(taken) == 1
    assert await outbox_count(database, hold) == 1
    row = await database.fetchrow("select * from generation where id = $1", hold.id)
    assert row is not None
    assert (row["state"], row["model"]) == ("settled", "gpt-6-luna-2026")


async def test_question_and_answer_are_done_together(database: Database) -> None:
    hold, settlement = await a_hold(database), a_settlement()
    await SqlTurns(database).settle(hold, settlement, usage_fact(hold, settlement, sandbox=True))

    async with SqlWork(database) as work:
        question, answer = await work.sessions.messages(hold.session_id, most=5, after=None)
    assert (question.status, answer.status) == (MessageStatus.DONE, MessageStatus.DONE)
    assert answer.usage == settlement.usage.to_record()
    assert (answer.cost_microusd, answer.processing_time_ms) == (5, 12)


async def test_an_interrupted_answer_is_not_history(database: Database) -> None:
    hold, turns = await a_hold(database), SqlTurns(database)
    settlement = a_settlement(Outcome.PROVIDER_FAILED, "Thi")
    await turns.settle(hold, settlement, usage_fact(hold, settlement, sandbox=True))

    beginning = await turns.begin(hold.session_id, hold.user_id)

    assert beginning is not None
    assert list(beginning.history) == []


async def test_a_refused_turn_leaves_no_answer_and_frees_its_key(database: Database) -> None:
    hold = await a_hold(database, idempotency_key="k", request_hash=b"h")
    turns = SqlTurns(database)
    assert await turns.earlier(hold.user_id, "k") is not None

    await turns.settle(hold, a_settlement(Outcome.REFUSED, ""), None)

    assert await turns.earlier(hold.user_id, "k") is None
    assert await outbox_count(database, hold) == 0


async def test_a_second_hold_with_the_same_key_writes_nothing(database: Database) -> None:
    hold = await a_hold(database, idempotency_key="k", request_hash=b"h")
    second = replace(
        hold,
        id=TurnId(uuid7()),
        question_id=MessageId(uuid7()),
        answer_id=MessageId(uuid7()),
        usage_event_id=EventId(uuid7()),
    )

    assert not await SqlTurns(database).hold(second, "again", sandbox=True)

    async with SqlWork(database) as work:
        assert len(await work.sessions.messages(hold.session_id, most=5, after=None)) == 1


async def test_only_holds_without_a_living_lease_are_orphans(database: Database) -> None:
    alive, lost = await a_hold(database), await a_hold(database)
    turns, now = SqlTurns(database), datetime.now(UTC)
    await turns.renew({alive.id: (9, "chatcmpl-2")}, now + timedelta(minutes=5))

    orphans = await turns.orphans(now + timedelta(minutes=1), most=1000)
    later = await turns.orphans(now + timedelta(minutes=6), most=1000)

    assert lost.id in {o.hold.id for o in orphans}
    assert alive.id not in {o.hold.id for o in orphans}
    (found,) = [o for o in later if o.hold.id == alive.id]
    assert (found.output_characters, found.provider_request_id) == (9, "chatcmpl-2")
    assert replace(found.hold, lease_expires_at=alive.lease_expires_at) == alive


async def test_news_of_a_key_may_come_twice_and_in_any_order(database: Database) -> None:
    user = UserId(uuid4())

    async def remember(version: int, status: str) -> None:
        async with SqlWork(database) as work:
            await work.known_keys.remember([KnownKey(user, "openai", version, status, ("m",))])

    async def known() -> list[tuple[int, str]]:
        async with SqlWork(database) as work:
            return [(k.key_version, k.status) for k in await work.known_keys.of_user(user)]

    await remember(2, "valid")
    await remember(1, "invalid")
    assert await known() == [(2, "valid")]
    async with SqlWork(database) as work:
        await work.known_keys.forget([RevokedKey(user, "openai", 2, datetime.now(UTC))])
    await remember(2, "valid")
    assert [status for _, status in await known()] == ["revoked"]
    await remember(3, "valid")
    assert await known() == [(3, "valid")]
