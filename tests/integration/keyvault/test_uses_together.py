"""Uses of keys that are noted in one statement: each is judged as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.keyvault.domain.audit import Kind
from services.keyvault.domain.errors import ServiceStopped, UserRateReached
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.organisation import ClaimedSeat, SeatNews
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import USABLE, Status
from services.keyvault.domain.service_use import ServiceStop
from services.keyvault.storage.key_uses import SqlKeyUses
from services.keyvault.storage.service_uses import SqlServiceUses
from services.keyvault.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database, UnstorableText
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from tests.integration.keyvault.harness import (
    SECRET,
    Keyvault,
    Surroundings,
    a_user,
    running,
)
from tests.integration.keyvault.test_use_limits import BARRIERS, closed, lines_of

NOW = SystemClock().now

Outcome = FoundKey | BaseException | None


def a_use(user: UserId, *, service: str = "chat", **parts: Any) -> KeyUse:
    parts = {"request_id": "request-1", "grant_id": uuid4(), **parts}
    return KeyUse(Kind.USED, Owner.user(user), "openai", service, at=NOW(), **parts)


async def in_company(database: Database, uses: Sequence[KeyUse], *, most: int = 0) -> list[Outcome]:
    """Note them while two others are under way, so that they all go together."""
    key_uses = SqlKeyUses(database)
    first = [a_use(a_user()), a_use(a_user())]
    found = await asyncio.gather(
        *(key_uses.note(use, if_status=USABLE, most=most) for use in [*first, *uses]),
        return_exceptions=True,
    )
    return list(found[2:])


async def alone(database: Database, use: KeyUse, *, most: int = 0) -> Outcome:
    """Note one for which nobody else waits."""
    try:
        return await SqlKeyUses(database).note(use, if_status=USABLE, most=most)
    except Exception as error:
        return error


async def statements_of(database: Database, uses: Sequence[KeyUse]) -> list[int]:
    """How many of these lines each transaction wrote."""
    rows = await database.fetch(
        "select count(*) from audit_entry where id = any($1) group by xmin::text order by 1",
        [use.id for use in uses],
    )
    return [int(row[0]) for row in rows]


async def users_with_keys(keyvault: Keyvault, count: int) -> list[UserId]:
    users = [a_user() for _ in range(count)]
    for user in users:
        await keyvault.put(user, f"{SECRET}-{user}")
    return users


async def test_they_are_noted_in_one_transaction_and_each_gets_its_own_key(
    keyvault: Keyvault, database: Database
) -> None:
    uses = [a_use(user) for user in await users_with_keys(keyvault, 8)]

    found = await in_company(database, uses)

    assert await statements_of(database, uses) == [8]
    for use, key in zip(uses, found, strict=True):
        assert isinstance(key, FoundKey)
        assert (key.name.owner, key.is_noted) == (use.owner, True)
        assert replace(key, is_noted=False) == await sealed(database, use)


async def sealed(database: Database, use: KeyUse) -> Outcome:
    """What the use's key looks like to one who comes with a grant that is used up."""
    return await alone(database, replace(use, id=uuid4()))


@dataclass(frozen=True)
class Situation:
    """A user, how they ask, and the limit."""

    user: UserId
    asks: dict[str, Any]

    def use(self) -> KeyUse:
        return a_use(self.user, **self.asks)


async def situations(keyvault: Keyvault, database: Database) -> dict[str, Situation]:
    """Whatever may become of a use, each for a user of its own."""
    (
        plain,
        revoked,
        invalid,
        stopped,
        hasty,
        replayed,
        newer,
        seated,
        unseated,
        freed,
        gone,
    ) = await users_with_keys(keyvault, 11)
    nobody, member, told = a_user(), a_user(), a_user()
    organisation = uuid4()
    await lend_to_organisation(database, unseated, organisation)
    await keyvault.public.delete("/keys/openai", headers=keyvault.around.mint.headers(revoked))
    for user in (invalid, freed):
        await set_status(database, user, "invalid")
    for _ in range(6):
        await alone(database, a_use(hasty))
    used_up = uuid4()
    await alone(database, a_use(replayed, grant_id=used_up))
    async with SqlWork(database) as work:
        await work.organisations.note_seats([SeatNews(told, organisation, True, NOW())])
    await database.execute(
        "insert into forgotten_user (user_id, erasure_id, asked_at, done_at)"
        " values ($1, $2, now(), now())",
        gone,
        uuid4(),
    )
    seat = ClaimedSeat(organisation, True, NOW())
    lost = ClaimedSeat(organisation, False, NOW() - timedelta(minutes=1))
    return {
        "in order": Situation(plain, {}),
        "no key": Situation(nobody, {}),
        "withdrawn": Situation(revoked, {}),
        "refused by its vendor": Situation(invalid, {}),
        "of a service that is stopped": Situation(stopped, {"service": "voice"}),
        "too fast": Situation(hasty, {}),
        "of a grant that is used up": Situation(replayed, {"grant_id": used_up}),
        "for another version": Situation(newer, {"version": 2}),
        "for this version": Situation(newer, {"version": 1}),
        "own key before the organisation's": Situation(seated, {"seat": seat}),
        "the organisation's": Situation(member, {"seat": seat}),
        "the organisation's, as news tells": Situation(told, {"seat": lost}),
        "no seat": Situation(member, {"seat": replace(seat, is_taken=False)}),
        "the organisation's for an own one that fails": Situation(freed, {"seat": seat}),
        "of somebody forgotten": Situation(gone, {"seat": seat}),
        "without a request id": Situation(plain, {"request_id": None}),
    }


async def lend_to_organisation(database: Database, user: UserId, organisation: UUID) -> None:
    """Make a user's key an organisation's; what it seals is of no interest here."""
    for table in ("provider_key", "data_key"):
        await database.execute(
            f"update {table} set owner_type = 'organisation', owner_id = $2 where owner_id = $1",
            user,
            organisation,
        )


async def set_status(database: Database, user: UserId, status: str) -> None:
    await database.execute("update provider_key set status = $2 where owner_id = $1", user, status)


async def test_each_fares_in_company_as_it_would_alone(
    keyvault: Keyvault, database: Database
) -> None:
    cases = await situations(keyvault, database)
    stop = SqlServiceUses(database)
    await stop.stop(ServiceStop("voice", NOW(), "op", "drill"))
    try:
        one_by_one = [await alone(database, case.use(), most=6) for case in cases.values()]
        uses = [case.use() for case in cases.values()]
        together = await in_company(database, uses, most=6)
    finally:
        await stop.resume("voice", at=NOW(), by="op")

    for name, single, shared, use in zip(cases, one_by_one, together, uses, strict=True):
        if isinstance(single, Exception):
            assert type(shared) is type(single), name
        else:
            assert shared == single, name
        line = await database.fetchrow("select * from audit_entry where id = $1", use.id)
        assert (line is not None) is (isinstance(shared, FoundKey) and shared.is_noted), name
    kinds = dict(zip(cases, together, strict=True))
    assert isinstance(kinds["of a service that is stopped"], ServiceStopped)
    assert isinstance(kinds["too fast"], UserRateReached)
    given = {
        name for name, found in kinds.items() if isinstance(found, FoundKey) and found.is_noted
    }
    assert given == {
        "in order",
        "for this version",
        "own key before the organisation's",
        "the organisation's",
        "the organisation's, as news tells",
        "the organisation's for an own one that fails",
        "of somebody forgotten",
        "without a request id",
    }
    assert await statements_of(database, uses) == [len(given)]


async def test_lines_say_the_same_as_of_one_that_was_noted_alone(
    keyvault: Keyvault, database: Database
) -> None:
    (user,) = await users_with_keys(keyvault, 1)
    seat = ClaimedSeat(uuid4(), True, NOW())
    single, shared = a_use(user, seat=seat, version=1), a_use(user, seat=seat, version=1)
    await alone(database, single)
    await in_company(database, [shared, a_use(a_user())])

    one, other = [
        await database.fetchrow("select * from audit_entry where id = $1", use.id)
        for use in (single, shared)
    ]
    assert one is not None and other is not None
    own = {"id", "grant_id", "at"}
    assert {name: value for name, value in one.items() if name not in own} == {
        name: value for name, value in other.items() if name not in own
    }
    assert (other["grant_id"], other["at"]) == (shared.grant_id, shared.at)


async def test_of_one_grant_shown_twice_one_is_honoured(
    keyvault: Keyvault, database: Database
) -> None:
    user, other = await users_with_keys(keyvault, 2)
    grant = uuid4()
    uses = [a_use(user, grant_id=grant), a_use(other), a_use(user, grant_id=grant)]

    found = await in_company(database, uses)

    assert [isinstance(key, FoundKey) and key.is_noted for key in found] == [True, True, False]
    assert await lines_of(database, user) == 1


async def test_a_users_limit_counts_those_in_the_same_company(
    keyvault: Keyvault, database: Database
) -> None:
    hasty, calm = await users_with_keys(keyvault, 2)
    await alone(database, a_use(hasty))
    uses = [a_use(hasty) for _ in range(6)]

    found = await in_company(database, [*uses, a_use(calm)], most=3)

    refused = [isinstance(outcome, UserRateReached) for outcome in found]
    assert refused == [False, False, True, True, True, True, False]
    assert await lines_of(database, hasty) == 3


async def test_a_bad_one_fails_for_itself(keyvault: Keyvault, database: Database) -> None:
    users = await users_with_keys(keyvault, 3)
    uses = [a_use(user) for user in users]
    bad = a_use(users[0], request_id="request\0")

    found = await in_company(database, [uses[0], bad, *uses[1:]])

    assert isinstance(found.pop(1), UnstorableText)
    assert all(isinstance(key, FoundKey) and key.is_noted for key in found)
    assert await statements_of(database, [*uses, bad]) == [1, 1, 1]


@pytest.mark.parametrize("barrier", BARRIERS)
async def test_without_lines_in_the_trail_nobody_gets_a_key(
    keyvault: Keyvault, database: Database, barrier: str
) -> None:
    users = await users_with_keys(keyvault, 4)
    async with closed(database, barrier):
        answers = await asyncio.gather(*(keyvault.egress(user) for user in users))
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert SECRET not in answer.text + repr(answer.headers)
    assert [await lines_of(database, user) for user in users] == [0] * 4
    again = await asyncio.gather(*(keyvault.egress(user) for user in users))
    assert [answer.status_code for answer in again] == [200] * 4


async def test_a_database_that_dies_under_them_gives_no_key_and_leaves_no_line(
    keyvault: Keyvault, database: Database
) -> None:
    users = await users_with_keys(keyvault, 6)
    uses = [a_use(user) for user in users]
    async with database.connection() as holder, holder.transaction():
        await holder.execute("lock table audit_entry in exclusive mode")
        noting = asyncio.create_task(in_company(database, uses))
        async with asyncio.timeout(5):
            while not noting.done():
                await kill_waiting(database)
                await asyncio.sleep(0.01)
        found = await noting
    assert [type(outcome) for outcome in found] == [DependencyUnavailable] * 6
    assert await statements_of(database, uses) == []
    assert all(
        isinstance(key, FoundKey) and key.is_noted
        for key in await in_company(database, [a_use(user) for user in users])
    )


async def kill_waiting(database: Database) -> None:
    """End those who wait to write."""
    await database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'test' and wait_event_type = 'Lock'"
    )


async def test_a_caller_that_gives_up_takes_nobody_along(
    keyvault: Keyvault, database: Database
) -> None:
    users = await users_with_keys(keyvault, 4)
    key_uses, uses = SqlKeyUses(database), [a_use(user) for user in users]
    async with database.connection() as holder, holder.transaction():
        await holder.execute("lock table audit_entry in exclusive mode")
        noting = [
            asyncio.create_task(key_uses.note(use, if_status=USABLE))
            for use in [a_use(a_user()), a_use(a_user()), *uses]
        ]
        await asyncio.sleep(0.1)
        noting[3].cancel()
    found = await asyncio.gather(*noting, return_exceptions=True)
    assert isinstance(found.pop(3), asyncio.CancelledError)
    assert all(isinstance(key, FoundKey) and key.is_noted for key in found[2:])


async def test_two_processes_shown_the_same_grants_honour_each_once(
    around: Surroundings, keyvault: Keyvault, database: Database
) -> None:
    """In opposite order, at the same time: they neither wait for each other nor give twice."""
    users = await users_with_keys(keyvault, 12)
    proofs = [keyvault.proofs(user) for user in users]
    async with running(around) as other:
        answers = await asyncio.gather(
            *(keyvault.egress(u, headers=p) for u, p in zip(users, proofs, strict=True)),
            *(other.egress(u, headers=p) for u, p in zip(users[::-1], proofs[::-1], strict=True)),
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 12 + [403] * 12
    assert [await lines_of(database, user) for user in users] == [1] * 12


async def test_keys_that_are_withdrawn_meanwhile_are_not_given(
    keyvault: Keyvault, database: Database
) -> None:
    users = await users_with_keys(keyvault, 6)
    headers = [keyvault.around.mint.headers(user) for user in users]
    for header in headers[::2]:
        assert (await keyvault.public.delete("/keys/openai", headers=header)).status_code == 204
    found = await in_company(database, [a_use(user) for user in users])
    live = [isinstance(key, FoundKey) and key.status is not Status.REVOKED for key in found]
    assert live == [False, True] * 3
    assert [await lines_of(database, user) for user in users] == [0, 1] * 3
