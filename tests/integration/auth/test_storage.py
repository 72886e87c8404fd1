"""What auth keeps, on the real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.auth.actions.change_password import ChangePassword
from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.domain.errors import AddressTaken, TooManyAttempts, UsernameTaken
from services.auth.domain.origin import NOWHERE
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.sign_in import EndReason, SignInId
from services.auth.domain.token_pair import TokenPair
from services.auth.domain.user import EmailAddress, LoginName, Role, User, Username
from services.auth.storage.tables import metadata
from services.auth.storage.unit_of_work import SqlWork
from shared.db.database import Database, UnstorableText
from shared.db.engine import sync_engine
from shared.events.user import UserRegistered
from shared.ids import UserId, uuid7
from shared.settings import service_database_url
from tests.support.auth import (
    LIFETIMES,
    LIMIT,
    NOON,
    PASSWORD,
    PlainPasswords,
    StoppedClock,
    a_sign_in,
    a_sign_in_action,
    a_user,
    shown,
)
from tests.support.auth_mails import PlainRules

NewWork = Callable[[], SqlWork]
DAY = timedelta(days=1)


def somebody(**parts: Any) -> User:
    return a_user(f"user{uuid4().hex[:12]}", **parts)


async def kept(new_work: NewWork, *users: User) -> User:
    async with new_work() as work:
        for user in users:
            await work.users.add(user)
    return users[0]


def test_migrations_make_the_tables_that_are_declared(database_url: str) -> None:
    engine = sync_engine(service_database_url(database_url, "auth"))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_a_user_comes_back_as_it_went(new_work: NewWork) -> None:
    user = await kept(
        new_work,
        somebody(
            username=Username.parse(f"Größe {uuid4().hex}"),
            tier="pro",
            tier_revision=2**40,
            role=Role.BILLING,
            is_active=False,
            email_verified=True,
        ),
    )
    async with new_work() as work:
        assert await work.users.get(user.id) == user
        assert await work.users.hold(user.id) == user
        assert await work.users.named(LoginName.parse(user.email.text.upper())) == user
        assert await work.users.named(LoginName.parse(user.username.text.upper())) == user
        assert await work.users.get(UserId(uuid7())) is None
        assert await work.users.named(LoginName.parse("\0")) is None


async def test_a_username_is_unique_without_regard_to_case(new_work: NewWork) -> None:
    user = await kept(new_work, somebody())
    shouted = Username.parse(user.username.text.upper())
    with pytest.raises(UsernameTaken):
        await kept(new_work, replace(somebody(), username=shouted))


async def test_an_address_may_be_claimed_by_many_and_proven_by_one(new_work: NewWork) -> None:
    email = EmailAddress.parse(f"{uuid4().hex}@example.com")
    claims = [await kept(new_work, somebody(email=email)) for _ in range(4)]
    login = LoginName.parse(email.text)
    async with new_work() as work:
        assert await work.users.named(login) == claims[-1]
        assert await work.users.claiming(email, most=3) == claims[:0:-1]

    async def prove(user: User) -> User:
        proven = replace(user, email_verified=True)
        async with new_work() as work:
            await work.users.save(proven)
        return proven

    results = await asyncio.gather(*map(prove, claims), return_exceptions=True)
    [owner] = [result for result in results if isinstance(result, User)]
    assert sum(isinstance(result, AddressTaken) for result in results) == 3
    await kept(new_work, somebody(email=email))
    async with new_work() as work:
        assert await work.users.named(login) == owner
    with pytest.raises(AddressTaken):
        await kept(new_work, somebody(email=email, email_verified=True))


async def test_of_two_registrations_at_once_one_wins(new_work: NewWork) -> None:
    name = Username.parse(f"user{uuid4().hex[:12]}")
    results = await asyncio.gather(
        *(kept(new_work, somebody(username=name)) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, User) for result in results) == 1
    assert sum(isinstance(result, UsernameTaken) for result in results) == 7


async def test_saving_leaves_the_tier_alone_and_refuses_a_taken_username(
    new_work: NewWork,
) -> None:
    user, other = somebody(), somebody()
    await kept(new_work, user, other)
    changed = replace(
        user, email_verified=True, tier="enterprise", password=PasswordHash("another")
    )
    async with new_work() as work:
        await work.users.save(changed)
    async with new_work() as work:
        assert await work.users.get(user.id) == replace(changed, tier="free")
    with pytest.raises(UsernameTaken):
        async with new_work() as work:
            await work.users.save(replace(user, username=other.username))


async def test_a_fact_leaves_only_with_its_user(new_work: NewWork, database: Database) -> None:
    user = somebody()

    async def register() -> None:
        async with new_work() as work:
            await work.users.add(user)
            work.publish(UserRegistered(user_id=user.id), subject=user.id, tier="free")

    await register()
    with pytest.raises(UsernameTaken):
        await register()
    rows = await database.fetch(
        "select stream, envelope from outbox where envelope->>'subject' = $1", str(user.id)
    )
    [row] = rows
    assert row["stream"] == "user.registered.free"
    assert row["envelope"]["data"] == {"user_id": str(user.id)}
    assert row["envelope"]["source"] == "auth"


async def test_tiers_only_rise_in_revision(new_work: NewWork) -> None:
    ada, grace = somebody(), somebody(tier="pro", tier_revision=5)
    await kept(new_work, ada, grace)
    later = NOON + DAY
    async with new_work() as work:
        tiers = {
            ada.id: ("pro", 1),
            grace.id: ("free", 5),
            UserId(uuid7()): ("pro", 1),
        }
        await work.users.set_tiers(tiers, later)
    async with new_work() as work:
        assert await work.users.get(ada.id) == replace(
            ada, tier="pro", tier_revision=1, updated_at=later
        )
        assert await work.users.get(grace.id) == grace


async def test_batches_about_the_same_users_do_not_block_each_other(new_work: NewWork) -> None:
    users = [somebody() for _ in range(20)]
    await kept(new_work, *users)

    async def tell(order: list[User], revision: int) -> None:
        async with new_work() as work:
            tiers = {user.id: ("pro", revision) for user in order}
            await work.users.set_tiers(tiers, NOON)

    await asyncio.gather(*(tell(users[::-1] if n % 2 else users, revision=n + 1) for n in range(8)))
    async with new_work() as work:
        revisions = {(await work.users.get(user.id)).tier_revision for user in users}  # type: ignore[union-attr]
    assert revisions == {8}


async def test_a_sign_in_comes_back_as_it_went(new_work: NewWork) -> None:
    user = await kept(new_work, somebody())
    sign_in = a_sign_in(user, counter=3, pepper_version=2)
    async with new_work() as work:
        await work.sign_ins.add(sign_in)
        assert await work.sign_ins.get(sign_in.id) == sign_in
        assert await work.sign_ins.get(SignInId(uuid7())) is None


async def test_of_many_rotations_at_once_one_is_kept(new_work: NewWork) -> None:
    user = await kept(new_work, somebody())
    sign_in = a_sign_in(user)
    async with new_work() as work:
        await work.sign_ins.add(sign_in)

    async def rotate() -> bool:
        async with new_work() as work:
            return await work.sign_ins.advance(sign_in.rotated(NOON, LIFETIMES))

    assert sorted(await asyncio.gather(*(rotate() for _ in range(20)))) == [False] * 19 + [True]


async def test_an_ended_sign_in_neither_rotates_nor_changes_its_reason(
    new_work: NewWork, database: Database
) -> None:
    user = await kept(new_work, somebody())
    sign_in = a_sign_in(user)
    async with new_work() as work:
        await work.sign_ins.add(sign_in)
        await work.sign_ins.end(sign_in.id, EndReason.REFRESH_REUSED, NOON)
        await work.sign_ins.end(sign_in.id, EndReason.SIGNED_OUT, NOON + DAY)
        await work.sign_ins.end_all_of(user.id, EndReason.SIGNED_OUT, NOON + DAY)
        assert not await work.sign_ins.advance(sign_in.rotated(NOON, LIFETIMES))
    row = await database.fetchrow("select * from sign_in where id = $1", sign_in.id)
    assert row is not None
    assert (row["ended_at"], row["end_reason"], row["counter"]) == (NOON, "refresh_reused", 0)


async def test_live_devices_are_listed_in_pages_newest_first(new_work: NewWork) -> None:
    user, other = somebody(), somebody()
    await kept(new_work, user, other)
    mine = [a_sign_in(user) for _ in range(5)]
    over = [
        a_sign_in(user, expires_at=NOON),
        a_sign_in(user, id=SignInId(uuid7())),
        a_sign_in(other),
    ]
    async with new_work() as work:
        for sign_in in mine + over:
            await work.sign_ins.add(sign_in)
        await work.sign_ins.end(over[1].id, EndReason.SIGNED_OUT, NOON)
        first = await work.sign_ins.live_of(user.id, NOON, before=None, most=3)
        rest = await work.sign_ins.live_of(user.id, NOON, before=first[-1].id, most=3)
    assert [*first, *rest] == mine[::-1]


async def test_all_devices_but_one_can_be_ended(new_work: NewWork) -> None:
    user, other = somebody(), somebody()
    await kept(new_work, user, other)
    here, there, elsewhere = a_sign_in(user), a_sign_in(user), a_sign_in(other)
    async with new_work() as work:
        for sign_in in (here, there, elsewhere):
            await work.sign_ins.add(sign_in)
        await work.sign_ins.end_all_of(user.id, EndReason.PASSWORD_CHANGED, NOON, but=here.id)
        ended = [
            found.ended_at
            for sign_in in (here, there, elsewhere)
            if (found := await work.sign_ins.get(sign_in.id))
        ]
    assert ended == [None, NOON, None]


async def test_failures_count_up_within_their_window(new_work: NewWork) -> None:
    subject, end = f"login:{uuid4()}", NOON + LIMIT.window
    async with new_work() as work:
        assert await work.login_failures.of(subject) is None
        for count in (1, 2, 3):
            failures = await work.login_failures.add(subject, NOON, window_ends_at=end)
            assert failures == await work.login_failures.of(subject)
            assert (failures.count, failures.window_ends_at) == (count, end)
        anew = await work.login_failures.add(subject, end, window_ends_at=end + LIMIT.window)
        assert (anew.count, anew.window_ends_at) == (1, end + LIMIT.window)
        await work.login_failures.forget(subject)
        assert await work.login_failures.of(subject) is None


async def test_failures_of_a_clock_that_was_ahead_are_not_counted_up(new_work: NewWork) -> None:
    subject, window = f"login:{uuid4()}", timedelta(minutes=1)

    async with new_work() as work:

        async def count(at: datetime) -> int:
            added = await work.login_failures.add(subject, at, window_ends_at=at + window)
            return added.count

        assert [await count(NOON + timedelta(hours=1)) for _ in range(3)] == [1, 2, 3]
        assert [await count(NOON) for _ in range(3)] == [1, 2, 3]
        # Clocks that differ by minutes go on with one another's, however short the window.
        assert await count(NOON - timedelta(minutes=5)) == 4


async def test_no_failure_is_lost_when_many_come_at_once(new_work: NewWork) -> None:
    subject = f"nobody:\ud800{uuid4()}"

    async def fail() -> int:
        async with new_work() as work:
            failures = await work.login_failures.add(
                subject, NOON, window_ends_at=NOON + LIMIT.window
            )
        return failures.count

    counts = await asyncio.gather(*(fail() for _ in range(20)))
    assert sorted(counts) == list(range(1, 21))


async def test_what_people_typed_is_not_kept(new_work: NewWork, database: Database) -> None:
    typed = f"my secret {uuid4()}"
    async with new_work() as work:
        await work.login_failures.add(typed, NOON, window_ends_at=NOON)
    rows = await database.fetch("select subject from login_failure")
    assert rows
    assert not any(typed.encode() in row["subject"] for row in rows)


async def test_old_rows_are_forgotten_piece_by_piece(new_work: NewWork, database: Database) -> None:
    # Long before anything that other tests keep.
    old = NOON - 4000 * DAY
    user = await kept(new_work, somebody())
    ended = [a_sign_in(user, at=old) for _ in range(3)]
    expired = a_sign_in(user, at=old, expires_at=old)
    live = a_sign_in(user)
    async with new_work() as work:
        for sign_in in (*ended, expired, live):
            await work.sign_ins.add(sign_in)
        for sign_in in ended:
            await work.sign_ins.end(sign_in.id, EndReason.SIGNED_OUT, old)
        for _ in range(3):
            await work.login_failures.add(f"login:{uuid4()}", old, window_ends_at=old)
    async with new_work() as work:
        just_after = old + timedelta(seconds=1)
        forgotten = [
            await kept.forget_before(just_after, most=2)
            for kept in (work.sign_ins, work.login_failures)
            for _ in range(3)
        ]
        assert forgotten == [2, 2, 0, 2, 1, 0]
        assert await work.sign_ins.get(live.id) == live


async def test_a_deleted_user_takes_their_devices_along(
    new_work: NewWork, database: Database
) -> None:
    user = await kept(new_work, somebody())
    sign_in = a_sign_in(user)
    async with new_work() as work:
        await work.sign_ins.add(sign_in)
    await database.execute("delete from user_account where id = $1", user.id)
    async with new_work() as work:
        assert await work.sign_ins.get(sign_in.id) is None


async def test_text_that_cannot_be_stored_is_the_senders_mistake(new_work: NewWork) -> None:
    with pytest.raises(UnstorableText):
        await kept(new_work, somebody(username=Username("a\0b")))


async def test_of_many_guesses_at_once_no_more_than_five_are_answered(new_work: NewWork) -> None:
    user = await kept(new_work, somebody())
    sign_in = a_sign_in_action(new_work)

    async def guess(text: str) -> TokenPair:
        return await sign_in(shown(user.username.text, text))

    guesses = [guess(f"guess number {n}") for n in range(40)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    told = [result for result in results if not isinstance(result, TooManyAttempts)]
    assert len(told) == 5
    with pytest.raises(TooManyAttempts):
        await guess(PASSWORD)


async def test_a_sign_in_and_a_change_of_password_at_once_leave_no_old_sign_in(
    new_work: NewWork,
) -> None:
    clock = StoppedClock(NOON + DAY)
    passwords = PlainPasswords()
    user = await kept(new_work, somebody())
    sign_in = a_sign_in_action(new_work, passwords, clock=clock)
    confirm = ConfirmPassword(new_work, passwords, LIMIT, clock)
    change = ChangePassword(new_work, confirm, PlainRules())
    begun = [sign_in(shown(user.username.text)) for _ in range(5)]
    changed = change(
        user.id,
        current=Password(PASSWORD),
        new=Password("eleven geese cross a bridge"),
        keep=SignInId(uuid7()),
        origin=NOWHERE,
    )
    results = await asyncio.gather(*begun[:3], changed, *begun[3:], return_exceptions=True)
    assert results[3] is None
    async with new_work() as work:
        assert await work.sign_ins.live_of(user.id, clock.now(), before=None, most=9) == []
