"""Whoever ends or wakes many sign-ins and tokens at once locks them in one order, so that two of
them wait for each other in turn and never both at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.auth.actions.assign_role import AssignRole
from services.auth.actions.begin_totp import BeginTotp
from services.auth.actions.confirm_totp import ConfirmTotp
from services.auth.actions.delete_account import DeleteAccount
from services.auth.actions.disable_account import DisableAccount, EnableAccount
from services.auth.actions.disable_client import DisableClient
from services.auth.actions.register_client import RegisterClient
from services.auth.actions.sign_out import SignOut
from services.auth.domain.authorization import AuthorizationCode
from services.auth.domain.origin import NOWHERE
from services.auth.domain.personal_token import PersonalToken
from services.auth.domain.pkce import CodeChallenge
from services.auth.domain.sign_in import Proof, SignIn
from services.auth.domain.user import Role, User
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database
from tests.support.auth import LIMIT, a_sign_in, a_user
from tests.support.auth_erasure import VendorsVoices
from tests.support.auth_oauth import CALLBACK, challenge_of
from tests.support.auth_personal_tokens import a_personal_token
from tests.support.auth_second_factors import code_at
from tests.support.waiting import until_locked_out

NewWork = Callable[[], SqlWork]
CLOCK = SystemClock()
HELD_TOKEN = "select 1 from personal_token where id = $1 for update"
HELD_SIGN_IN = "select 1 from sign_in where id = $1 for update"
HELD_CODE = "select 1 from authorization_code where code_hash = $1 for update"
HELD_END = """
insert into ended_credential (id, user_id, ended_at) values ($1, gen_random_uuid(), now())
"""


@dataclass
class Holdings:
    """A user with three sign-ins and three personal tokens, in the order of their ids. The tokens
    were made in sign-ins of a client that are over."""

    user: User
    client_id: str
    sign_ins: Sequence[SignIn]
    tokens: Sequence[PersonalToken]


@pytest.fixture
async def holdings(new_work: NewWork) -> Holdings:
    user = a_user(f"user{uuid4().hex[:12]}", email_verified=True)
    client = await RegisterClient(new_work, CLOCK)("An editor", [CALLBACK])
    now = CLOCK.now()
    of_client = a_sign_in(user, at=now, client_id=client.client_id)
    sign_ins = [a_sign_in(user, at=now) for _ in range(3)]
    tokens = [a_personal_token(user, at=now, within=of_client)[0] for _ in range(3)]
    async with new_work() as work:
        await work.users.add(user)
        for sign_in in sign_ins:
            await work.sign_ins.add(sign_in)
        for token in tokens:
            await work.personal_tokens.add(token)
    return Holdings(user, client.client_id, sign_ins, tokens)


@asynccontextmanager
async def held(database: Database, statement: str, id_: UUID | bytes) -> AsyncIterator[None]:
    """One row, by somebody who then changes nothing."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement, id_)
        yield
        await transaction.rollback()


async def end_well(
    database: Database, held_row: tuple[str, UUID | bytes], *acts: Callable[[], Awaitable[object]]
) -> None:
    """All that was begun, one after the other, while somebody holds a row that they need."""
    begun: list[asyncio.Task[object]] = []
    async with held(database, *held_row):
        for number, act in enumerate(acts, 1):
            begun.append(asyncio.ensure_future(act()))
            await until_locked_out(database, number, unless=begun[-1].done)
    ends = await asyncio.gather(*begun, return_exceptions=True)
    assert [end for end in ends if isinstance(end, BaseException)] == []


Act = Callable[[NewWork, User], Awaitable[object]]


async def locked(new_work: NewWork, user: User) -> None:
    await DisableAccount(new_work, CLOCK)(user.username.text)


async def unlocked(new_work: NewWork, user: User) -> None:
    await EnableAccount(new_work, CLOCK)(user.username.text)


async def given_a_role(new_work: NewWork, user: User) -> None:
    await AssignRole(new_work, CLOCK)(user.username.text, Role.BILLING)


async def deleted(new_work: NewWork, user: User) -> None:
    await DeleteAccount(new_work, CLOCK, VendorsVoices())(user.id, access_token="")


@pytest.mark.parametrize(
    ("act", "needed"),
    [
        (locked, "token"),
        (locked, "end"),
        (unlocked, "token"),
        (given_a_role, "token"),
        (deleted, "token"),
        (deleted, "end"),
    ],
)
async def test_an_account_and_a_client_do_not_wait_for_each_other(
    new_work: NewWork, database: Database, holdings: Holdings, act: Act, needed: str
) -> None:
    if act is unlocked:
        await locked(new_work, holdings.user)
    await end_well(
        database,
        (HELD_TOKEN if needed == "token" else HELD_END, holdings.tokens[1].id),
        lambda: act(new_work, holdings.user),
        lambda: DisableClient(new_work, CLOCK)(holdings.client_id),
    )
    assert not await live_tokens(new_work, holdings.user)


async def live_tokens(new_work: NewWork, user: User) -> Sequence[PersonalToken]:
    async with new_work() as work:
        return await work.personal_tokens.live_of(user.id, CLOCK.now(), before=None, most=10)


async def test_who_signs_out_and_who_deletes_the_account_do_not_wait_for_each_other(
    new_work: NewWork, database: Database, holdings: Holdings
) -> None:
    first, middle, _ = holdings.sign_ins
    await end_well(
        database,
        (HELD_END, middle.id),
        lambda: deleted(new_work, holdings.user),
        lambda: SignOut(new_work, CLOCK)(first.id, of=holdings.user.id, everywhere=False),
    )


async def test_nor_do_those_who_sign_out_everywhere(
    new_work: NewWork, database: Database, holdings: Holdings
) -> None:
    first, middle, _ = holdings.sign_ins
    await end_well(
        database,
        (HELD_SIGN_IN, middle.id),
        lambda: SignOut(new_work, CLOCK)(first.id, of=holdings.user.id, everywhere=True),
        lambda: deleted(new_work, holdings.user),
    )


async def test_nor_do_those_who_keep_the_one_in_which_they_act(
    new_work: NewWork, database: Database, holdings: Holdings
) -> None:
    """Who adds a second factor ends all but their own, in which they then note the proof."""
    first, middle, _ = holdings.sign_ins
    begun = await BeginTotp(new_work, "Companion", CLOCK)(holdings.user.id)
    code, confirm = code_at(begun.totp.secret, CLOCK.now()), ConfirmTotp(new_work, LIMIT, CLOCK)
    await end_well(
        database,
        (HELD_SIGN_IN, middle.id),
        lambda: confirm(holdings.user.id, code, keep=first.id, origin=NOWHERE),
        lambda: SignOut(new_work, CLOCK)(first.id, of=holdings.user.id, everywhere=True),
    )


async def test_codes_that_are_made_void_are_locked_in_one_order(
    new_work: NewWork, database: Database, holdings: Holdings
) -> None:
    hashes = [bytes([first]) + holdings.user.id.bytes + bytes(15) for first in (255, 128, 1)]
    async with new_work() as work:
        for code_hash in hashes:
            await work.authorization_codes.add(a_code(holdings, code_hash))
    await end_well(
        database,
        (HELD_CODE, hashes[1]),
        lambda: SignOut(new_work, CLOCK)(
            holdings.sign_ins[0].id, of=holdings.user.id, everywhere=True
        ),
        lambda: deleted(new_work, holdings.user),
    )


def a_code(holdings: Holdings, code_hash: bytes) -> AuthorizationCode:
    now = CLOCK.now()
    return AuthorizationCode(
        code_hash=code_hash,
        client_id=holdings.client_id,
        user_id=holdings.user.id,
        redirect_uri=CALLBACK,
        challenge=CodeChallenge(challenge_of()),
        scopes=None,
        proof=Proof(now, frozenset({"pwd"})),
        created_at=now,
        expires_at=now + timedelta(minutes=1),
    )
