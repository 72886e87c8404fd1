"""Holds and settlements that share a transaction: each is judged as if it were alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chat.actions.settle_turn import SettleTurn, usage_facts
from services.chat.actions.withdraw_hold import WithdrawHold
from services.chat.domain.content import ImagePart, Thought
from services.chat.domain.conversation import MessageId
from services.chat.domain.errors import TurnRunning
from services.chat.domain.ports import Asked
from services.chat.domain.turn import Hold, TurnId
from services.chat.storage.turns import SqlTurns
from services.chat.storage.unit_of_work import SqlWork
from shared import withdrawals
from shared.clock import SystemClock
from shared.db.database import Database, Row, UnstorableText, open_database
from shared.errors import DependencyUnavailable
from shared.ids import EventId, UserId, uuid7
from shared.settings import service_database_url
from tests.integration.chat.test_storage import (
    a_hold,
    a_settlement,
    generation,
    outbox_count,
)
from tests.support.chat import a_session, seven

Outcome = bool | BaseException


@pytest.fixture(scope="module")
def url(migrated: Callable[[str], str]) -> str:
    return service_database_url(migrated("chat"), "chat")


@pytest.fixture(scope="module")
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url, connections=10, application="test") as opened:
        yield opened


@pytest.fixture(scope="module")
async def elsewhere(url: str) -> AsyncIterator[Database]:
    """What another replica has."""
    async with open_database(url, connections=10, application="elsewhere") as opened:
        yield opened


async def unheld(database: Database, count: int, **parts: Any) -> list[Hold]:
    """Holds that are not written yet, each in a session of a new user."""
    now = datetime.now(UTC)
    sessions = [a_session(UserId(uuid4()), created_at=now, updated_at=now) for _ in range(count)]
    async with SqlWork(database) as work:
        for session in sessions:
            await work.sessions.add(session)
    example = await a_hold(database)
    return [
        renewed(example, user_id=session.user_id, session_id=session.id, **parts)
        for session in sessions
    ]


def renewed(hold: Hold, **parts: Any) -> Hold:
    """Another hold like this one."""
    ids = {
        "id": TurnId(uuid7()),
        "question_id": MessageId(uuid7()),
        "answer_id": MessageId(uuid7()),
        "usage_event_id": EventId(uuid7()),
    }
    return replace(hold, **{**ids, **parts})


async def held(database: Database, count: int) -> list[Hold]:
    return [await a_hold(database) for _ in range(count)]


def hold(turns: SqlTurns, asked: Hold, content: str = "What is this?") -> asyncio.Task[bool]:
    return asyncio.ensure_future(turns.hold(asked, Asked(content), sandbox=True))


def settle(turns: SqlTurns, open_: Hold, **parts: Any) -> asyncio.Task[bool]:
    settlement = a_settlement(**parts)
    facts = usage_facts(open_, settlement, sandbox=True)
    return asyncio.ensure_future(turns.settle(open_, settlement, facts))


async def crowded(database: Database) -> SqlTurns:
    """Turns of which two holds and two settlements are under way, so that all others wait."""
    turns = SqlTurns(database)
    for together in (turns._hold_next, turns._settle_answered):
        together._under_way = 2
    return turns


async def depart(turns: SqlTurns) -> None:
    """What is under way ends."""
    await asyncio.sleep(0)
    for together in (turns._hold_next, turns._settle_answered):
        together._ended(together._generation)
        together._ended(together._generation)


async def outcomes(turns: SqlTurns, tasks: Sequence[asyncio.Task[bool]]) -> list[Outcome]:
    await depart(turns)
    async with asyncio.timeout(20):
        return list(await asyncio.gather(*tasks, return_exceptions=True))


async def transactions(database: Database, table: str, ids: Sequence[UUID]) -> list[int]:
    """How many of these rows each transaction wrote last."""
    rows = await database.fetch(
        f"select count(*) from {table} where id = any($1) group by xmin::text order by 1",
        list(ids),
    )
    return [int(row[0]) for row in rows]


async def questions(database: Database, holds: Sequence[Hold]) -> int:
    rows = await database.fetch(
        "select id from chat_message where id = any($1)", [each.question_id for each in holds]
    )
    return len(rows)


async def deadlocks(database: Database) -> int:
    row = await database.fetchrow(
        "select pg_stat_clear_snapshot(), deadlocks from pg_stat_database"
        " where datname = current_database()"
    )
    assert row is not None
    return int(row["deadlocks"])


async def test_holds_share_a_transaction_and_each_has_its_question(database: Database) -> None:
    holds, turns = await unheld(database, 8), await crowded(database)
    found = await outcomes(turns, [hold(turns, each, f"{each.id}") for each in holds])
    assert found == [True] * 8
    assert await transactions(database, "generation", [each.id for each in holds]) == [8]
    for each in holds:
        row = await database.fetchrow(
            "select session_id, content from chat_message where id = $1", each.question_id
        )
        assert row is not None
        assert (row["session_id"], row["content"]) == (each.session_id, str(each.id))
    # How long they wait for locks is theirs alone, and over with them.
    row = await database.fetchrow("show lock_timeout")
    assert row is not None
    assert row[0] == "0"


async def test_settlements_share_a_transaction_and_each_tells_its_usage(
    database: Database,
) -> None:
    holds, turns = await held(database, 8), await crowded(database)
    found = await outcomes(turns, [settle(turns, each, text=f"{each.id}") for each in holds])
    assert found == [True] * 8
    assert await transactions(database, "generation", [each.id for each in holds]) == [8]
    for each in holds:
        answer = await turns.answer_of(each)
        assert answer is not None
        assert (answer.content, answer.session_id) == (str(each.id), each.session_id)
        assert await outbox_count(database, each) == 1


async def test_where_nothing_is_under_way_they_go_at_once_and_alone(database: Database) -> None:
    holds, turns = await unheld(database, 2), SqlTurns(database)
    tasks = [hold(turns, each) for each in holds]
    assert await asyncio.gather(*tasks) == [True] * 2
    assert await transactions(database, "generation", [each.id for each in holds]) == [1, 1]


async def test_of_one_session_a_second_turn_is_refused_in_the_same_company(
    database: Database,
) -> None:
    holds, turns = await unheld(database, 3), await crowded(database)
    asked = [holds[0], renewed(holds[0]), holds[1], renewed(holds[1]), holds[2]]
    found = await outcomes(turns, [hold(turns, each) for each in asked])
    assert [type(each) for each in found] == [bool, TurnRunning, bool, TurnRunning, bool]
    assert await questions(database, asked) == 3
    assert await transactions(database, "generation", [each.id for each in asked]) == [3]


async def test_of_one_key_used_twice_one_turn_begins(database: Database) -> None:
    one, other, third = await unheld(database, 3)
    parts: dict[str, Any] = {"idempotency_key": "k", "request_hash": b"h"}
    asked = [replace(one, **parts), replace(other, user_id=one.user_id, **parts), third]
    await database.execute(
        "update chat_session set user_id = $2 where id = $1", other.session_id, one.user_id
    )
    turns = await crowded(database)
    found = await outcomes(turns, [hold(turns, each) for each in asked])
    assert sorted(map(bool, found[:2])) == [False, True]
    assert found[2] is True
    assert await questions(database, asked) == 2


async def test_of_two_settlements_of_one_hold_in_the_same_company_one_counts(
    database: Database,
) -> None:
    holds, turns = await held(database, 3), await crowded(database)
    asked = [holds[0], holds[1], holds[0], holds[2]]
    found = await outcomes(turns, [settle(turns, each) for each in asked])
    assert found == [True, True, False, True]
    assert [await outbox_count(database, each) for each in holds] == [1, 1, 1]


async def test_a_bad_one_fails_for_itself(database: Database) -> None:
    holds, turns = await unheld(database, 4), await crowded(database)
    tasks = [hold(turns, each, "bad\0" if each is holds[1] else "good") for each in holds]
    found = await outcomes(turns, tasks)
    assert isinstance(found.pop(1), UnstorableText)
    assert found == [True] * 3
    assert await questions(database, holds) == 3

    open_ = [holds[0], *holds[2:]]
    turns = await crowded(database)
    tasks = [settle(turns, each, text="bad\0" if each is open_[1] else "x") for each in open_]
    found = await outcomes(turns, tasks)
    assert isinstance(found.pop(1), UnstorableText)
    assert found == [True] * 2
    assert [await outbox_count(database, each) for each in open_] == [1, 0, 1]


async def test_what_is_long_goes_alone(database: Database) -> None:
    holds, turns = await unheld(database, 3), await crowded(database)
    long = hold(turns, holds[0], "x" * 20_001)
    assert await asyncio.wait_for(long, 10) is True  # though two are under way
    tasks = [hold(turns, each) for each in holds[1:]]
    assert await outcomes(turns, tasks) == [True] * 2
    turns = await crowded(database)
    assert await asyncio.wait_for(settle(turns, holds[0], text="x" * 20_001), 10) is True
    found = await outcomes(turns, [settle(turns, each) for each in holds[1:]])
    assert found == [True] * 2
    assert await transactions(database, "generation", [each.id for each in holds]) == [1, 2]


async def test_what_has_more_than_a_text_goes_alone(database: Database) -> None:
    holds, turns = await unheld(database, 3), await crowded(database)
    question = Asked("What is this?", images=[ImagePart(url="https://images.example/1.png")])
    shown = asyncio.ensure_future(turns.hold(holds[0], question, sandbox=True))
    tasks = [shown, *(hold(turns, each) for each in holds[1:])]
    assert await outcomes(turns, tasks) == [True] * 3
    assert await transactions(database, "generation", [each.id for each in holds]) == [1, 2]
    turns = await crowded(database)
    thoughts = (Thought("anthropic", {"type": "thinking", "thinking": "x" * 100_000}),)
    thinking = settle(turns, holds[0], thoughts=thoughts)
    tasks = [thinking, *(settle(turns, each) for each in holds[1:])]
    assert await outcomes(turns, tasks) == [True] * 3
    assert await transactions(database, "generation", [each.id for each in holds]) == [1, 2]


async def test_more_than_the_driver_sends_at_once_goes_together_too(database: Database) -> None:
    holds, turns = await unheld(database, 30), await crowded(database)
    long = "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 20_000
    assert await outcomes(turns, [hold(turns, each, long) for each in holds]) == [True] * 30
    turns = await crowded(database)
    assert await outcomes(turns, [settle(turns, each, text=long) for each in holds]) == [True] * 30
    assert await transactions(database, "generation", [each.id for each in holds]) == [30]


async def test_a_session_that_is_locked_keeps_no_other_turn_waiting(database: Database) -> None:
    holds = await unheld(database, 5)
    stuck, *others = holds
    turns = await crowded(database)
    async with SqlWork(database) as work:
        assert stuck.session_id is not None
        assert await work.sessions.lock(stuck.session_id, stuck.user_id)
        tasks = [hold(turns, each) for each in holds]
        await depart(turns)
        began = time.monotonic()
        async with asyncio.timeout(2):  # far below what a hold waits for a lock
            assert await asyncio.gather(*tasks[1:]) == [True] * 4
        assert time.monotonic() - began < 1
        assert not tasks[0].done()
    assert await tasks[0] is True
    assert await questions(database, others) == 4


async def test_who_leaves_a_session_that_is_locked_leaves_nothing_waiting_there(
    database: Database,
) -> None:
    holds = await unheld(database, 3)
    turns = await crowded(database)
    async with SqlWork(database) as work:
        assert holds[0].session_id is not None
        assert await work.sessions.lock(holds[0].session_id, holds[0].user_id)
        tasks = [hold(turns, each) for each in holds]
        await depart(turns)
        assert await asyncio.gather(*tasks[1:]) == [True] * 2
        async with asyncio.timeout(2):  # below what a hold waits for a lock
            while database.connections.lent < 2:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            while database.connections.lent > 1:
                await asyncio.sleep(0.01)
    assert await questions(database, holds[1:]) == 2


async def test_a_hold_that_is_locked_keeps_no_other_settlement_waiting(
    database: Database,
) -> None:
    holds = await held(database, 5)
    turns = await crowded(database)
    async with database.connection() as holder, holder.transaction():
        await holder.execute("select id from generation where id = $1 for update", holds[2].id)
        tasks = [settle(turns, each) for each in holds]
        stuck = tasks.pop(2)
        await depart(turns)
        async with asyncio.timeout(2):
            assert await asyncio.gather(*tasks) == [True] * 4
        assert not stuck.done()
    assert await stuck is True
    assert [await outbox_count(database, each) for each in holds] == [1] * 5


async def test_a_session_that_changed_while_its_lock_was_waited_for_is_looked_at_again(
    database: Database,
) -> None:
    holds, turns = await unheld(database, 3), await crowded(database)
    async with database.connection() as holder, holder.transaction():
        await holder.execute(
            "update chat_session set name = 'Other' where id = $1", holds[0].session_id
        )
        tasks = [hold(turns, each) for each in holds]
        await depart(turns)
        await asyncio.sleep(0.003)
    assert await asyncio.gather(*tasks) == [True] * 3


@pytest.mark.parametrize("round_", range(4))
async def test_bursts_of_two_replicas_in_opposite_order_take_each_turn_once(
    database: Database, elsewhere: Database, round_: int
) -> None:
    before = await deadlocks(database)
    here, there = SqlTurns(database), SqlTurns(elsewhere)
    holds = await unheld(database, 24)
    rivals = [renewed(each) for each in holds]
    async with asyncio.timeout(20):
        found = await asyncio.gather(
            *(hold(here, each) for each in holds),
            *(hold(there, each) for each in rivals[::-1]),
            return_exceptions=True,
        )
    assert sorted(type(each).__name__ for each in found) == ["TurnRunning"] * 24 + ["bool"] * 24
    assert await questions(database, [*holds, *rivals]) == 24

    rows = await database.fetch(
        "select id from generation where id = any($1)", [each.id for each in [*holds, *rivals]]
    )
    begun = {row["id"] for row in rows}
    open_ = [each for each in [*holds, *rivals] if each.id in begun]
    async with asyncio.timeout(20):
        closed = await asyncio.gather(
            *(settle(here, each) for each in open_),
            *(settle(there, each) for each in open_[::-1]),
            here.renew({each.id: (1, None) for each in open_[::-1]}, datetime.now(UTC)),
            return_exceptions=True,
        )
    assert closed.pop() is None
    assert sorted(closed) == [False] * 24 + [True] * 24  # type: ignore[type-var]
    assert [await outbox_count(database, each) for each in open_] == [1] * 24
    assert await deadlocks(database) == before


@asynccontextmanager
async def slow_commits(database: Database) -> AsyncIterator[None]:
    """Whoever writes a hold, or closes one, is kept in the commit itself."""
    await database.execute(
        "create function test_linger() returns trigger language plpgsql as"
        " $$ begin perform pg_sleep(30); return null; end $$"
    )
    await database.execute(
        "create constraint trigger test_linger after insert or update on generation"
        " deferrable initially deferred for each row execute function test_linger()"
    )
    try:
        yield
    finally:
        await database.execute("drop trigger test_linger on generation")
        await database.execute("drop function test_linger")


async def kill_those_in_commit(database: Database, pending: asyncio.Future[Any]) -> None:
    async with asyncio.timeout(10):
        while not pending.done():
            await database.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and wait_event = 'PgSleep'"
            )
            await asyncio.sleep(0.02)


async def test_a_connection_that_dies_in_the_commit_tells_all_that_it_may_be_there(
    database: Database,
) -> None:
    holds, turns = await unheld(database, 5), await crowded(database)
    async with slow_commits(database):
        tasks = asyncio.gather(*(hold(turns, each) for each in holds), return_exceptions=True)
        await depart(turns)
        await kill_those_in_commit(database, tasks)
        found = await tasks
    assert [type(each) for each in found] == [DependencyUnavailable] * 5
    # Nobody knows, so each of them will be taken back.
    assert not any(each.did_nothing for each in found if isinstance(each, DependencyUnavailable))
    assert await transactions(database, "generation", [each.id for each in holds]) == []
    assert await asyncio.gather(*(hold(turns, each) for each in holds)) == [True] * 5


def closing(turns: SqlTurns) -> SettleTurn:
    return SettleTurn(turns, seven, SystemClock(), sandbox=True)


async def test_settlements_whose_commit_died_are_tried_again_until_each_is_there_once(
    database: Database,
) -> None:
    holds, turns = await held(database, 5), await crowded(database)
    async with slow_commits(database):
        tasks = [asyncio.ensure_future(closing(turns)(each, a_settlement())) for each in holds]
        await depart(turns)
        together = turns._settle_answered
        async with asyncio.timeout(10):
            while not together._flights:
                await asyncio.sleep(0.001)
        await kill_those_in_commit(database, next(iter(together._flights)))
    messages = await asyncio.gather(*tasks)
    assert [message.content for message in messages] == ["This."] * 5
    assert [await outbox_count(database, each) for each in holds] == [1] * 5


class LosesTheWord(Database):
    """Its connection dies when the commit is through, the first time."""

    lost = 0

    async def fetch_each(
        self, sql: str, each: Sequence[Sequence[Any]], *, within_seconds: float | None = None
    ) -> list[Row]:
        rows = await super().fetch_each(sql, each, within_seconds=within_seconds)
        if not self.lost:
            self.lost = len(each)
            raise DependencyUnavailable("database")
        return rows


async def test_of_commits_whose_word_is_lost_each_counts_once(database: Database) -> None:
    forgetful = LosesTheWord(database.connections)
    holds, turns = await held(database, 5), await crowded(forgetful)
    tasks = [
        asyncio.ensure_future(closing(turns)(each, a_settlement(text=str(each.id))))
        for each in holds
    ]
    await depart(turns)
    messages = await asyncio.gather(*tasks)
    assert forgetful.lost == 5
    assert [message.content for message in messages] == [str(each.id) for each in holds]
    assert [await outbox_count(database, each) for each in holds] == [1] * 5


async def test_holds_whose_word_is_lost_are_taken_back_each(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawals, "_PACE_SECONDS", 0.01)
    forgetful = LosesTheWord(database.connections)
    holds, turns = await unheld(database, 5), await crowded(forgetful)
    withdraw = WithdrawHold(turns)
    found = await outcomes(turns, [hold(turns, each) for each in holds])
    assert forgetful.lost == 5
    for each, failure in zip(holds, found, strict=True):
        assert isinstance(failure, DependencyUnavailable)
        withdraw(each, failure)
    assert withdraw.work is not None
    await withdraw.work
    rows = [await generation(database, each) for each in holds]
    assert [row["outcome"] for row in rows] == ["refused"] * 5
    assert [await outbox_count(database, each) for each in holds] == [0] * 5


async def test_who_is_cancelled_takes_nobody_along_and_leaves_no_hold(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawals, "_WRITTEN_AFTER_SECONDS", (0.01, 0.3))
    monkeypatch.setattr(withdrawals, "_PACE_SECONDS", 0.01)
    holds, turns = await unheld(database, 5), await crowded(database)
    withdraw = WithdrawHold(turns)
    async with database.connection() as holder, holder.transaction():
        await holder.execute("lock table generation in exclusive mode")
        tasks = [hold(turns, each) for each in holds]
        await depart(turns)
        await asyncio.sleep(0.002)
        tasks[1].cancel()
        await asyncio.sleep(0.05)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found.pop(1), asyncio.CancelledError)
    assert found == [True] * 4
    withdraw(holds[1], asyncio.CancelledError())
    assert withdraw.work is not None
    await withdraw.work
    rows = await database.fetch(
        "select state from generation where id = any($1)", [each.id for each in holds]
    )
    running = [row["state"] for row in rows if row["state"] == "running"]
    assert len(running) == 4


async def test_a_database_without_a_free_connection_did_nothing(
    url: str, database: Database
) -> None:
    holds = await unheld(database, 3)
    async with open_database(url, connections=1, application="test") as narrow:
        turns = await crowded(narrow)
        async with narrow.connection():
            found = await outcomes(turns, [hold(turns, each) for each in holds])
    assert [type(each) for each in found] == [DependencyUnavailable] * 3
    assert all(each.did_nothing for each in found if isinstance(each, DependencyUnavailable))


async def test_what_they_write_is_the_same_as_of_one_alone(database: Database) -> None:
    own = {"id", "user_id", "session_id", "question_id", "answer_id", "usage_event_id"}
    times = {"created_at", "lease_expires_at", "settled_at"}
    now = datetime.now(UTC)
    single, *several = await unheld(database, 3, created_at=now)
    several = [replace(each, lease_expires_at=now + timedelta(seconds=9)) for each in several]
    assert await hold(SqlTurns(database), single)
    assert await settle(SqlTurns(database), single)
    turns = await crowded(database)
    assert await outcomes(turns, [hold(turns, each) for each in several]) == [True] * 2
    turns = await crowded(database)
    assert await outcomes(turns, [settle(turns, each) for each in several]) == [True] * 2
    rows = [await generation(database, each) for each in (single, *several)]
    kept = [{name: value for name, value in row.items() if name not in own | times} for row in rows]
    assert kept[0] == kept[1] == kept[2]
