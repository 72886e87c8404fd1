"""Chat's statements on the real PostgreSQL: settled once, whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.chat.actions.open_turn import Opening, OpenTurn
from services.chat.actions.settle_turn import usage_facts
from services.chat.actions.withdraw_hold import WithdrawHold
from services.chat.domain.content import ToolCall, ToolResult
from services.chat.domain.conversation import MessageId, MessageStatus
from services.chat.domain.errors import BranchMoved, TurnRunning
from services.chat.domain.known_key import KnownKey, RevokedKey
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.ports import Asked
from services.chat.domain.preference import Preference
from services.chat.domain.turn import (
    Abandoned,
    Hold,
    Orphan,
    Outcome,
    Settlement,
    Surface,
    TurnId,
)
from services.chat.domain.usage import Usage
from services.chat.storage import extras as extras_module
from services.chat.storage import history
from services.chat.storage import turns as turns_module
from services.chat.storage.beginnings import Memory
from services.chat.storage.extras import Extras, to_extras
from services.chat.storage.tables import metadata
from services.chat.storage.turns import _SPENT, SqlTurns
from services.chat.storage.unit_of_work import SqlWork
from services.chat.wiring import wire_web
from shared import withdrawals
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.db.engine import sync_engine
from shared.errors import DependencyUnavailable
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId, uuid7
from shared.settings import service_database_url
from shared.tiers import TIERS
from tests.integration.chat.conftest import ChatSuite
from tests.support.chat import MemoryAdmission, a_session, seven


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
    assert await SqlTurns(database).hold(hold, Asked("What is this?"), sandbox=True)
    return hold


async def a_call(database: Database, **parts: object) -> Hold:
    """The hold of a call without a session."""
    now = datetime.now(UTC)
    hold = Hold(
        id=TurnId(uuid7()),
        user_id=UserId(uuid4()),
        session_id=None,
        question_id=None,
        answer_id=MessageId(uuid7()),
        usage_event_id=EventId(uuid7()),
        request_id="request-1",
        tier="pro",
        provider="openai",
        model="gpt-6-luna",
        input_estimate=7,
        created_at=now,
        lease_expires_at=now + timedelta(seconds=30),
        surface=Surface.V1,
    )
    hold = replace(hold, **parts)  # type: ignore[arg-type]
    assert await SqlTurns(database).hold(hold, None, sandbox=True)
    return hold


def a_settlement(
    outcome: Outcome = Outcome.DONE, text: str = "This.", **parts: object
) -> Settlement:
    settlement = Settlement(
        outcome=outcome,
        text=text,
        usage=Usage(input_tokens=7, output_tokens=2),
        provider="openai",
        model="gpt-6-luna-2026",
        provider_request_id="chatcmpl-1",
        processing_time_ms=12,
        cost_microusd=5,
        price_version="test",
    )
    return replace(settlement, **parts)  # type: ignore[arg-type]


async def settle(database: Database, hold: Hold, settlement: Settlement) -> bool:
    facts = usage_facts(hold, settlement, sandbox=True)
    return await SqlTurns(database).settle(hold, settlement, facts)


async def generation(database: Database, hold: Hold) -> dict[str, Any]:
    row = await database.fetchrow("select * from generation where id = $1", hold.id)
    assert row is not None
    return dict(row)


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
    hold = await a_hold(database)

    outcomes = [Outcome.DONE, Outcome.CLIENT_GONE, Outcome.REPLICA_LOST] * 4
    taken = await asyncio.gather(
        *(settle(database, hold, a_settlement(outcome)) for outcome in outcomes)
    )

    assert sum(taken) == 1
    assert await outbox_count(database, hold) == 1
    row = await database.fetchrow("select * from generation where id = $1", hold.id)
    assert row is not None
    assert (row["state"], row["model"]) == ("settled", "gpt-6-luna-2026")


async def test_question_and_answer_are_done_together(database: Database) -> None:
    hold, settlement = await a_hold(database), a_settlement()
    await settle(database, hold, settlement)
    assert hold.session_id is not None

    async with SqlWork(database) as work:
        question, answer = await work.sessions.messages(hold.session_id, most=5, after=None)
    assert (question.status, answer.status) == (MessageStatus.DONE, MessageStatus.DONE)
    assert answer.usage == settlement.usage.to_record()
    assert (answer.cost_microusd, answer.processing_time_ms) == (5, 12)


async def test_an_interrupted_answer_is_not_history(database: Database) -> None:
    hold, turns = await a_hold(database), SqlTurns(database)
    await settle(database, hold, a_settlement(Outcome.PROVIDER_FAILED, "Thi"))
    assert hold.session_id is not None

    beginning = await turns.begin(hold.session_id, hold.user_id)

    assert beginning is not None
    assert list(beginning.history) == []


async def test_a_vendors_ratings_do_not_make_what_was_said_slower_to_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def from_extras(value: Any) -> Extras:
        read.append(value)
        return extras_module.from_extras(value)

    monkeypatch.setattr(history, "from_extras", from_extras)
    rated, turns = {"HARM_CATEGORY_HARASSMENT": "LOW"}, SqlTurns(database)
    hold = await a_hold(database)
    await settle(database, hold, a_settlement(safety_ratings=rated))
    assert hold.session_id is not None
    for message_id in (None, hold.answer_id):
        if message_id is None:
            beginning = await turns.begin(hold.session_id, hold.user_id)
        else:
            beginning = await turns.begin_at(hold.session_id, hold.user_id, message_id)
        assert beginning is not None
        said = [utterance.content for utterance in beginning.history]
        assert said == (["What is this?", "This."] if message_id is None else [])
    assert read == []

    # Beside them there may be something that counts.
    hold = await a_hold(database)
    call = ToolCall("call-1", "look_up", "{}")
    await settle(database, hold, a_settlement(tool_calls=[call], safety_ratings=rated))
    assert hold.session_id is not None
    beginning = await turns.begin(hold.session_id, hold.user_id)
    assert beginning is not None
    assert [list(u.tool_calls) for u in beginning.history] == [[], [call]]
    assert [list(extras or {}) for extras in read] == [[], ["tool_calls"]]


@pytest.mark.parametrize(
    ("provider", "long", "messages"),
    [
        (None, {}, 1),
        (None, {"openai": 100}, 2),
        (None, {"anthropic": 100}, 1),
        ("anthropic", {"anthropic": 100}, 2),
        ("gemini", {"openai": 100}, 1),
    ],
)
async def test_more_is_read_for_whom_more_is_shown_to(
    database: Database, provider: str | None, long: dict[str, int], messages: int
) -> None:
    hold, turns = await a_hold(database), SqlTurns(database, Memory(history_bytes=10))
    await settle(database, hold, a_settlement(text="x" * 200))
    again = replace(
        hold,
        id=TurnId(uuid7()),
        question_id=MessageId(uuid7()),
        answer_id=MessageId(uuid7()),
        usage_event_id=EventId(uuid7()),
    )
    assert hold.session_id is not None
    beginning = await turns.begin(hold.session_id, hold.user_id, provider=provider, long=long)
    assert beginning is not None
    assert len(beginning.history) == messages
    follows = Asked("And this?", parent_id=beginning.tip_id)
    assert await turns.hold(again, follows, sandbox=True)
    assert again.question_id is not None
    beginning = await turns.begin_at(
        hold.session_id, hold.user_id, again.question_id, provider=provider, long=long
    )
    assert beginning is not None
    assert len(beginning.history) == messages


async def test_an_exchange_is_read_to_its_question_however_often_tools_were_called(
    database: Database,
) -> None:
    """Vendors refuse what begins with an answer, or with a call's result."""
    hold, turns = await a_hold(database), SqlTurns(database)
    calls = [ToolCall(f"call-{number}", "look_up", "{}") for number in range(61)]
    # The exchange before it, with whatever its tools said, is not read.
    await settle(database, hold, a_settlement())
    rounds = [
        {},
        to_extras(tool_calls=calls[:1]),
        *(
            extras
            for before, after in pairwise(calls)
            for extras in (
                to_extras(tool_results=[ToolResult(before.id, "x")]),
                to_extras(tool_calls=[after]),
            )
        ),
    ]
    whole = ["user", "assistant", *["tool", "assistant"] * 60]
    ids = [uuid7() for _ in rounds]
    await database.execute(
        """
        insert into chat_message
            (id, session_id, parent_id, role, content, status, created_at, extras)
        select id, $1, parent_id, role, case when role = 'user' then 'And now?' else '' end,
            'done', now(), extras
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::jsonb[])
            as m (id, parent_id, role, extras)
        """,
        hold.session_id,
        ids,
        [hold.answer_id, *ids[:-1]],
        whole,
        rounds,
    )
    assert hold.session_id is not None
    beginning = await turns.begin(hold.session_id, hold.user_id)
    assert beginning is not None
    assert [utterance.role.value for utterance in beginning.history] == whole
    beginning = await turns.begin_at(hold.session_id, hold.user_id, MessageId(ids[-1]))
    assert beginning is not None
    assert [utterance.role.value for utterance in beginning.history] == whole[:-2]


async def test_what_was_cut_takes_no_room_from_what_was_said(database: Database) -> None:
    hold, turns = await a_hold(database), SqlTurns(database)
    await settle(database, hold, a_settlement())
    kinds = [("user", "done"), ("assistant", "done"), ("user", "pending")]
    line = [*kinds, ("assistant", "interrupted")] * 60
    await database.execute(
        """
        insert into chat_message (id, session_id, role, content, status, created_at)
        select id, $1, role, 'x', status, now()
        from unnest($2::uuid[], $3::text[], $4::text[]) as m (id, role, status)
        """,
        hold.session_id,
        [uuid7() for _ in line],
        [role for role, _ in line],
        [status for _, status in line],
    )
    assert hold.session_id is not None
    beginning = await turns.begin(hold.session_id, hold.user_id)
    assert beginning is not None
    assert [utterance.role.value for utterance in beginning.history] == ["user", "assistant"] * 50


async def test_a_refused_turn_leaves_no_answer_and_frees_its_key(database: Database) -> None:
    hold = await a_hold(database, idempotency_key="k", request_hash=b"h")
    turns = SqlTurns(database)
    assert await turns.earlier(hold.user_id, "k") is not None

    await settle(database, hold, a_settlement(Outcome.REFUSED, ""))

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

    assert not await SqlTurns(database).hold(second, Asked("again"), sandbox=True)
    assert hold.session_id is not None

    async with SqlWork(database) as work:
        assert len(await work.sessions.messages(hold.session_id, most=5, after=None)) == 1


async def test_only_holds_without_a_living_lease_are_orphans(database: Database) -> None:
    alive, lost = await a_hold(database), await a_hold(database)
    turns, now = SqlTurns(database), datetime.now(UTC)
    await turns.renew({alive.id: (9, "chatcmpl-2")}, now + timedelta(minutes=5))

    async def orphans(minutes: float) -> dict[TurnId, Orphan]:
        """Those that are seen then, when a doubt of eight seconds is one."""
        at = now + timedelta(minutes=minutes)
        found = await turns.orphans(at, doubted_by=at - timedelta(seconds=8), most=1000)
        return {orphan.hold.id: orphan for orphan in found}

    assert lost.id not in await orphans(1)
    assert lost.id not in await orphans(1.1)
    sooner = await orphans(1.2)
    assert lost.id in sooner
    assert alive.id not in sooner
    await orphans(6)
    # Whoever is renewed is not doubted any more, and a doubt of before does not count again.
    await turns.renew({lost.id: (0, None)}, now + timedelta(minutes=7))
    later = await orphans(6.5)
    assert lost.id not in later
    assert lost.id not in await orphans(8)
    assert lost.id in await orphans(8.5)
    found = later[alive.id]
    assert (found.output_letters, found.provider_request_id) == (9, "chatcmpl-2")
    assert replace(found.hold, lease_expires_at=alive.lease_expires_at) == alive


async def test_who_is_renewed_is_no_orphan_of_a_sweeper_whose_clock_is_ahead(
    database: Database,
) -> None:
    alive, lost = await a_hold(database), await a_hold(database)
    turns, ahead = SqlTurns(database), timedelta(minutes=5)
    found: set[TurnId] = set()
    for seconds in range(0, 60, 10):
        now = datetime.now(UTC) + timedelta(seconds=seconds)
        await turns.renew({alive.id: (seconds, None)}, now + timedelta(seconds=30))
        at = now + ahead
        doubted_by = at - timedelta(seconds=18)
        found |= {one.hold.id for one in await turns.orphans(at, doubted_by=doubted_by, most=1000)}
    assert lost.id in found
    assert alive.id not in found


async def test_a_renewal_that_is_kept_waiting_is_tried_again_soon(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "PATIENCE_SECONDS", 0.1)
    hold, turns = await a_hold(database), SqlTurns(database)
    async with database.connection() as other, other.transaction():
        await other.execute("select from generation where id = $1 for update", hold.id)
        async with asyncio.timeout(2):
            with pytest.raises(DependencyUnavailable):
                await turns.renew({hold.id: (9, None)}, datetime.now(UTC))


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


async def test_an_abandoned_attempt_is_told_with_the_settlement_or_not_at_all(
    database: Database,
) -> None:
    hold = await a_call(database)
    lost = Abandoned(
        EventId(uuid7()), "anthropic", "claude", Usage(input_tokens=7, source="estimated"), 3
    )
    settlement = a_settlement(abandoned=[lost], fallback_from="anthropic")

    assert await settle(database, hold, settlement)
    other = replace(lost, usage_event_id=EventId(uuid7()))
    assert not await settle(database, hold, replace(settlement, abandoned=[other]))

    rows = await database.fetch(
        "select event_id from outbox where event_id = any($1::uuid[])",
        [hold.usage_event_id, lost.usage_event_id, other.usage_event_id],
    )
    assert {row["event_id"] for row in rows} == {hold.usage_event_id, lost.usage_event_id}
    row = await generation(database, hold)
    assert (row["cost_microusd"], row["fallback_from"]) == (8, "anthropic")


async def test_another_provider_takes_over_only_while_the_turn_runs(database: Database) -> None:
    hold, turns = await a_call(database), SqlTurns(database)
    await turns.redirect(hold.id, provider="gemini", model="gemini-4")
    row = await generation(database, hold)
    assert (row["provider"], row["model"]) == ("gemini", "gemini-4")

    await settle(database, hold, a_settlement(provider="gemini"))
    await turns.redirect(hold.id, provider="anthropic", model="claude")
    assert (await generation(database, hold))["provider"] == "gemini"


async def test_the_answer_of_a_call_is_stored_and_found_by_its_key(database: Database) -> None:
    hold = await a_call(database, idempotency_key="k", request_hash=b"h")
    turns = SqlTurns(database)
    await settle(database, hold, a_settlement(stored_answer=b"{}", fallback_from="gemini"))

    earlier = await turns.earlier(hold.user_id, "k")

    assert earlier is not None
    assert (earlier.stored_answer, earlier.fallback_from) == (b"{}", "gemini")
    assert (earlier.settled, earlier.answer, earlier.hold.surface) == (True, None, Surface.V1)


@pytest.mark.parametrize(
    ("outcome", "text", "stored", "kept"),
    [
        (Outcome.DONE, "This.", b"{}", True),
        (Outcome.DONE, "", b"{}", True),
        (Outcome.PROVIDER_FAILED, "Thi", b"{}", True),
        (Outcome.PROVIDER_FAILED, "", None, False),
        (Outcome.CONTENT_BLOCKED, "", None, False),
        (Outcome.REPLICA_LOST, "Thi", None, False),
        (Outcome.REFUSED, "", None, False),
    ],
)
async def test_a_key_is_kept_for_what_can_be_said_again(
    database: Database, outcome: Outcome, text: str, stored: bytes | None, kept: bool
) -> None:
    hold = await a_call(database, idempotency_key="k", request_hash=b"h")
    await settle(database, hold, a_settlement(outcome, text, stored_answer=stored))
    earlier = await SqlTurns(database).earlier(hold.user_id, "k")
    assert (earlier is not None) is kept


async def test_stored_answers_are_forgotten_in_batches_but_not_under_a_running_turn(
    database: Database,
) -> None:
    turns = SqlTurns(database)
    holds = [await a_call(database, idempotency_key="k", request_hash=b"h") for _ in range(3)]
    for hold in holds[:2]:
        await settle(database, hold, a_settlement(stored_answer=b"{}"))
    later = datetime.now(UTC) + timedelta(seconds=1)

    assert await turns.forget_answers(datetime.now(UTC) - timedelta(hours=1), most=9) == 0
    while await turns.forget_answers(later, most=1):
        pass

    rows = [await generation(database, hold) for hold in holds]
    assert [row["idempotency_key"] for row in rows] == [None, None, "k"]
    assert [row["stored_answer"] for row in rows] == [None, None, None]


async def test_what_was_spent_counts_from_its_month_on(database: Database) -> None:
    turns, user = SqlTurns(database), UserId(uuid4())
    for cost in (5, 7, None):
        hold = await a_call(database, user_id=user)
        await settle(database, hold, a_settlement(cost_microusd=cost))
    await settle(database, await a_call(database), a_settlement(cost_microusd=100))

    now = datetime.now(UTC)
    assert await turns.spent_since(user, now - timedelta(minutes=1)) == 12
    assert await turns.spent_since(user, now + timedelta(minutes=1)) == 0


async def test_what_was_spent_is_found_by_an_index(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("set local enable_seqscan = off")
        plan = await connection.fetch(f"explain {_SPENT}", uuid4(), datetime.now(UTC), uuid7())
    assert "ix_generation_user_id_id" in "\n".join(row[0] for row in plan)


async def test_the_cap_is_the_users_own(database: Database) -> None:
    turns, user = SqlTurns(database), UserId(uuid4())
    assert await turns.cap_of(user) is None
    async with SqlWork(database) as work:
        await work.preferences.save(user, Preference(("gemini",), 9_000))
    assert await turns.cap_of(user) == 9_000


class OnOneConnection:
    """A database whose statements are all part of one transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetchrow(self, sql: str, *values: Any) -> Any:
        return await self._connection.fetchrow(sql, *values)

    async def wake_relay(self) -> None:
        """Nothing of it can be seen yet."""


async def test_a_question_never_follows_a_question_whose_answer_it_did_not_see(
    database: Database,
) -> None:
    """A hold that waits for the settlement before it would go by what was there before that."""
    before = await a_hold(database)
    settlement = a_settlement()
    following = replace(
        before,
        id=TurnId(uuid7()),
        question_id=MessageId(uuid7()),
        answer_id=MessageId(uuid7()),
        usage_event_id=EventId(uuid7()),
    )

    async def ask(after: MessageId | None) -> bool:
        asked = Asked("And that?", parent_id=after)
        return await SqlTurns(database).hold(following, asked, sandbox=True)

    async with database.connection() as connection, connection.transaction():
        alone: Any = OnOneConnection(connection)
        facts = usage_facts(before, settlement, sandbox=True)
        assert await SqlTurns(alone).settle(before, settlement, facts)
        asking = asyncio.create_task(ask(before.question_id))
        await asyncio.sleep(0.1)
    with pytest.raises(TurnRunning):
        await asking

    with pytest.raises(BranchMoved):
        await ask(before.question_id)
    assert await ask(before.answer_id)
    row = await database.fetchrow(
        "select parent_id from chat_message where id = $1", following.question_id
    )
    assert row is not None
    assert row["parent_id"] == before.answer_id


async def test_an_error_of_the_database_tells_nothing_of_what_was_said(database: Database) -> None:
    """PostgreSQL would add the whole row, and whoever logs the error would write it down."""
    hold = await a_hold(database)
    with pytest.raises(asyncpg.CheckViolationError) as failed:
        await database.execute(
            "update chat_message set status = 'no', content = 'my secret' where id = $1",
            hold.question_id,
        )
    assert "secret" not in str(failed.value)
    assert failed.value.constraint_name == "ck_chat_message_status"


async def test_a_replica_that_leaves_takes_back_what_it_left_before(chat: ChatSuite) -> None:
    hold = await a_call(chat.database)
    async with wire_web(chat.settings) as wired:
        assert wired.actions.take_turn.open.withdraw is wired.withdraw
        wired.withdraw(hold, DependencyUnavailable("database"))
    assert (await generation(chat.database, hold))["outcome"] == "refused"


async def test_whoever_goes_while_a_hold_waits_leaves_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes on with a statement whose client is gone."""
    monkeypatch.setattr(withdrawals, "_WRITTEN_AFTER_SECONDS", (0.01, 0.2))
    monkeypatch.setattr(withdrawals, "_PACE_SECONDS", 0.01)
    now = datetime.now(UTC)
    session = a_session(UserId(uuid4()), created_at=now, updated_at=now)
    async with SqlWork(database) as work:
        await work.sessions.add(session)
    lease = timedelta(seconds=30)
    turns, admission = SqlTurns(database), MemoryAdmission()
    withdraw = WithdrawHold(turns)
    open_ = OpenTurn(turns, admission, withdraw, seven, SystemClock(), lease, sandbox=True)
    opening = Opening(
        by=OnBehalfOf(session.user_id, "request-1", "token", uuid4()),
        tier=TIERS["pro"],
        choice=ModelChoice("openai", "gpt-6-luna", 10),
        input_estimate=5,
        cap_microusd=None,
        session_id=session.id,
        asked=Asked("What is this?"),
    )
    async with SqlWork(database) as work:
        assert await work.sessions.lock(session.id, session.user_id)
        task = asyncio.create_task(open_(opening))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert withdraw.work is not None
    await withdraw.work

    rows = await database.fetch(
        "select outcome from generation where user_id = $1", session.user_id
    )
    assert [row["outcome"] for row in rows] == ["refused"]
    assert admission.reservations[0].refunds == 1
