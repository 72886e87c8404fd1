"""Limits on the use of keys, stops of services, and a trail that can't be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest

from services.keyvault.domain.service_use import ServiceStop, Tally
from services.keyvault.storage.audit import _NTH_LATEST
from services.keyvault.storage.service_uses import SqlServiceUses
from shared.clock import SystemClock
from shared.db.database import Database
from shared.ids import UserId
from tests.integration.keyvault.harness import SECRET, Keyvault, Surroundings, a_user, running
from tests.integration.keyvault.test_egress import refusal

WINDOW = timedelta(minutes=10)
NOW = SystemClock().now


def a_tally(*, uses: int, users: int, service: str = "chat") -> Tally:
    tally = Tally(NOW() - timedelta(seconds=1))
    tally.uses[service] = uses
    tally.users[service] = {UserId(uuid4()) for _ in range(users)}
    return tally


async def test_processes_learn_of_each_others_uses_and_users(fresh_database: Database) -> None:
    uses, one, other = SqlServiceUses(fresh_database), uuid4(), uuid4()
    tally = a_tally(uses=30, users=3)
    for process in (one, other):
        await uses.report(process, tally, tally.since + timedelta(seconds=1))

    chat, voice = await uses.standings(one, window=WINDOW)

    assert (chat.users, chat.elsewhere, chat.processes) == (3, 30, 2)
    assert (voice.users, voice.elsewhere, voice.processes) == (0, 0, 2)
    (looked_at, _) = await uses.standings(uuid4(), window=WINDOW)
    assert (looked_at.elsewhere, looked_at.processes) == (60, 2)


async def test_a_process_that_fell_silent_counts_no_more(fresh_database: Database) -> None:
    uses = SqlServiceUses(fresh_database)
    await uses.report(uuid4(), a_tally(uses=30, users=1), NOW())
    await fresh_database.execute("update service_usage set reported_at = now() - interval '6 s'")
    chat, _ = await uses.standings(uuid4(), window=WINDOW)
    assert (chat.elsewhere, chat.processes, chat.users) == (0, 0, 1)


async def test_users_of_before_the_window_are_forgotten(fresh_database: Database) -> None:
    uses = SqlServiceUses(fresh_database)
    await uses.report(uuid4(), a_tally(uses=2, users=2), NOW())
    await fresh_database.execute("update service_user set seen_at = now() - interval '11 min'")
    assert (await uses.standings(uuid4(), window=WINDOW))[0].users == 0
    await uses.drop_old(window=WINDOW)
    assert await fresh_database.fetch("select * from service_user") == []


async def test_of_many_who_stop_a_service_one_did_it(fresh_database: Database) -> None:
    uses = SqlServiceUses(fresh_database)
    stop = ServiceStop("chat", NOW(), "keyvault", "too many")

    done = await asyncio.gather(*(uses.stop(stop) for _ in range(10)))

    assert sorted(done) == [False] * 9 + [True]
    await uses.report(uuid4(), a_tally(uses=2, users=2), NOW())
    chat, voice = await uses.standings(uuid4(), window=WINDOW)
    assert (chat.stop, voice.stop) == (stop, None)
    assert await uses.resume("chat", at=NOW(), by="op")
    assert not await uses.resume("chat", at=NOW(), by="op")
    chat, _ = await uses.standings(uuid4(), window=WINDOW)
    assert (chat.stop, chat.users) == (None, 0)
    (past,) = await uses.stops(most=9)
    assert (past.reason, past.resumed_by) == ("too many", "op")


async def test_a_stop_counts_for_the_next_call_in_every_process(
    keyvault: Keyvault, database: Database
) -> None:
    user, uses = a_user(), SqlServiceUses(database)
    await keyvault.put(user)
    await keyvault.put(user, provider="elevenlabs")
    await uses.stop(ServiceStop("chat", NOW(), "op", "drill"))
    try:
        assert refusal(await keyvault.egress(user)) == (403, "service_stopped")
        assert (await keyvault.egress_for_voice(user)).status_code == 200
        assert await lines_of(database, user) == 1
    finally:
        await uses.resume("chat", at=NOW(), by="op")
    assert (await keyvault.egress(user)).status_code == 200


async def lines_of(database: Database, user: UserId) -> int:
    row = await database.fetchrow(
        "select count(*) from audit_entry where owner_id = $1 and kind = 'used'", user
    )
    assert row is not None
    return int(row[0])


async def test_a_service_that_serves_unusually_many_users_is_stopped_by_itself(
    around: Surroundings, keyvault: Keyvault, database: Database
) -> None:
    users, uses = [a_user() for _ in range(4)], SqlServiceUses(database)
    for user in users:
        await keyvault.put(user)
        await keyvault.put(user, provider="elevenlabs")
    most = await voice_served_more_than_chat(uses)
    async with running(around, users_per_window=most + 3, watch_seconds=0.02) as watched:
        try:
            for user in users[:3]:
                assert (await watched.egress_for_voice(user)).status_code == 200
            assert (await watched.egress_for_voice(users[3])).status_code == 200
            async with asyncio.timeout(5):
                while (await watched.egress_for_voice(users[0])).status_code == 200:
                    await asyncio.sleep(0.02)

            # Also in a process that has noticed nothing.
            answer = await keyvault.egress_for_voice(users[0])
            assert refusal(answer) == (403, "service_stopped")
            assert (await keyvault.egress(users[0])).status_code == 200
            metrics = (await watched.internal.get("/metrics")).text
            assert 'outcome="service_stopped",peer="voice",provider="elevenlabs"' in metrics
            assert 'companion_keyvault_service_stops_total{peer="voice"}' in metrics
            (stop, *_) = await uses.stops(most=1)
            assert (stop.service, stop.stopped_by) == ("voice", "keyvault")
        finally:
            for service in ("chat", "voice"):
                await uses.resume(service, at=NOW(), by="op")


async def voice_served_more_than_chat(uses: SqlServiceUses) -> int:
    """Have voice serve clearly more users than chat, whatever ran before; tell how many."""
    chat, voice = await uses.standings(uuid4(), window=WINDOW)
    missing = max(chat.users - voice.users, 0) + 100
    await uses.report(uuid4(), a_tally(uses=missing, users=missing, service="voice"), NOW())
    return (await uses.standings(uuid4(), window=WINDOW))[1].users


async def test_a_users_limit_holds_for_all_processes_together(
    around: Surroundings, database: Database
) -> None:
    user, other = a_user(), a_user()
    async with (
        running(around, uses_per_user_minute=4) as one,
        running(around, uses_per_user_minute=4) as two,
    ):
        await one.put(user)
        await one.put(other)
        given = [await keyvault.egress(user) for _ in range(3) for keyvault in (one, two)]
        assert [answer.status_code for answer in given] == [200] * 4 + [429] * 2
        assert refusal(given[-1]) == (429, "user_rate_reached")
        assert int(given[-1].headers["retry-after"]) > 0
        assert (await two.egress(other)).status_code == 200
    assert await lines_of(database, user) == 4


async def test_an_owners_keys_are_stored_so_often_whichever_process_is_asked(
    around: Surroundings, database: Database
) -> None:
    user, other = a_user(), a_user()
    async with (
        running(around, checks_per_owner_minute=4) as one,
        running(around, checks_per_owner_minute=4) as two,
    ):
        answers = await asyncio.gather(
            *(
                keyvault.put(user, f"{SECRET}-{number}", provider=provider)
                for number, keyvault in enumerate((one, two) * 2)
                for provider in ("openai", "gemini")
            )
        )
        assert sorted(answer.status_code for answer in answers) == [202] * 4 + [429] * 4
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "key_checks_reached"
        assert 50 <= int(refused.headers["retry-after"]) <= 60
        assert (await two.put(other)).status_code == 202
        async with running(around) as lenient:
            assert (await lenient.put(user)).status_code == 202
        async with running(around, checks_per_owner_minute=0) as limitless:
            assert (await limitless.put(user)).status_code == 202


async def test_how_often_is_read_from_the_lines_that_count_alone(database: Database) -> None:
    """By the plan that PostgreSQL makes when it is not tempted by small tables."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute("set local enable_seqscan = off")
        rows = await connection.fetch(
            "explain " + _NTH_LATEST, uuid4(), "user", ["stored", "validated"], uuid4(), 19
        )
    plan = "\n".join(row[0] for row in rows)
    assert "ix_audit_entry_checks" in plan, plan
    assert "Sort" not in plan, plan


async def test_a_grant_that_one_process_has_honoured_no_other_honours(
    around: Surroundings, keyvault: Keyvault
) -> None:
    user = a_user()
    await keyvault.put(user)
    proofs = keyvault.proofs(user)
    async with running(around) as other:
        assert (await other.egress(user, headers=proofs)).status_code == 200
    assert refusal(await keyvault.egress(user, headers=proofs)) == (403, "grant_replayed")
    # Nor does another key, or a later version, give it a second life.
    await keyvault.put(user, f"{SECRET}-next")
    assert refusal(await keyvault.egress(user, headers=proofs)) == (403, "grant_replayed")


async def test_a_grant_that_was_refused_for_haste_is_good_still(around: Surroundings) -> None:
    user = a_user()
    async with running(around, uses_per_user_minute=1) as strict, running(around) as lenient:
        await strict.put(user)
        proofs = strict.proofs(user)
        assert (await strict.egress(user)).status_code == 200
        assert refusal(await strict.egress(user, headers=proofs)) == (429, "user_rate_reached")
        assert (await lenient.egress(user, headers=proofs)).status_code == 200


async def test_a_services_limit_is_told_apart_from_a_users(around: Surroundings) -> None:
    user = a_user()
    async with running(around, uses_per_second=1) as keyvault:
        await keyvault.put(user)
        answers = await asyncio.gather(*(keyvault.egress(user) for _ in range(10)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) >= 8
        assert {refusal(answer) for answer in refused} == {(429, "service_rate_reached")}


BARRIERS = {
    "the right to write it is gone": (
        "revoke insert on audit_entry from current_user",
        "grant insert on audit_entry to current_user",
    ),
    "a trigger refuses it": (
        """
        create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'the trail is closed'; end $$;
        create trigger refuse before insert on audit_entry for each row execute function refuse()
        """,
        "drop trigger refuse on audit_entry; drop function refuse",
    ),
    "the table is gone": (
        "alter table audit_entry rename to audit_entry_away",
        "alter table audit_entry_away rename to audit_entry",
    ),
    "a constraint refuses it": (
        "alter table audit_entry add constraint closed check (false) not valid",
        "alter table audit_entry drop constraint closed",
    ),
}


@asynccontextmanager
async def closed(database: Database, barrier: str) -> AsyncIterator[None]:
    """The trail takes no line for a while."""
    close, reopen = BARRIERS[barrier]
    await database.execute(close)
    try:
        yield
    finally:
        await database.execute(reopen)


@pytest.mark.parametrize("barrier", BARRIERS)
async def test_without_a_line_in_the_trail_no_key_leaves(
    keyvault: Keyvault, database: Database, barrier: str
) -> None:
    user = a_user()
    await keyvault.put(user)
    async with closed(database, barrier):
        answer = await keyvault.egress(user)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert SECRET not in answer.text + repr(answer.headers)
    assert await lines_of(database, user) == 0
    assert (await keyvault.egress(user)).status_code == 200


async def test_a_database_that_dies_in_the_middle_gives_no_key_and_leaves_no_line(
    around: Surroundings, keyvault: Keyvault, database: Database
) -> None:
    user = a_user()
    await keyvault.put(user)
    async with database.connection() as holder, holder.transaction():
        await holder.execute("lock table audit_entry in exclusive mode")
        use = asyncio.create_task(keyvault.egress(user))
        async with asyncio.timeout(5):
            while not await database.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'keyvault' and wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.01)
        answer = await use
    assert refusal(answer) == (503, "dependency_unavailable")
    assert await lines_of(database, user) == 0
    assert (await keyvault.egress(user)).status_code == 200


async def test_a_caller_that_gave_up_leaves_a_line_or_none_but_never_blocks_the_next(
    keyvault: Keyvault, database: Database
) -> None:
    user = a_user()
    await keyvault.put(user)
    async with database.connection() as holder, holder.transaction():
        await holder.execute("lock table audit_entry in exclusive mode")
        uses = [asyncio.create_task(keyvault.egress(user)) for _ in range(5)]
        await asyncio.sleep(0)
        for use in uses:
            use.cancel()
        await asyncio.gather(*uses, return_exceptions=True)
    assert (await keyvault.egress(user)).status_code == 200
