"""Opening an account."""

import pytest

from services.auth.actions.create_operator import CreateOperator
from services.auth.actions.register import Register
from services.auth.domain.errors import (
    AccountExists,
    InvalidEmail,
    InvalidUsername,
    PasswordRefused,
)
from services.auth.domain.password import Password
from services.auth.domain.user import Role
from shared.events.user import UserRegistered
from tests.support.auth import PASSWORD, Memory, PlainPasswords, StoppedClock, a_user


def registering(memory: Memory, passwords: PlainPasswords | None = None) -> Register:
    return Register(memory.work, passwords or PlainPasswords(), StoppedClock())


async def test_a_new_account_is_kept_and_told_of() -> None:
    memory = Memory()
    user = await registering(memory)(
        email="Ada@Example.com", username="Ada", password=Password(PASSWORD)
    )
    assert memory.accounts == {user.id: user}
    [fact] = memory.published
    assert fact.event == UserRegistered(user_id=user.id)
    assert (fact.subject, fact.tier, fact.stream) == (user.id, "free", "user.registered.free")


async def test_the_password_is_hashed_exactly_as_typed() -> None:
    typed = "  Ame\u0301lie ﬁne  \t"
    passwords = PlainPasswords()
    await registering(Memory(), passwords)(
        email="ada@example.com", username="ada", password=Password(typed)
    )
    assert passwords.hashed == [typed]


@pytest.mark.parametrize(
    ("email", "username"),
    [("ADA@example.com", "somebody"), ("somebody@example.com", "aDa")],
)
async def test_a_taken_name_is_refused_after_as_much_work_and_without_saying_which(
    email: str, username: str
) -> None:
    memory, passwords = Memory().keep(a_user("ada")), PlainPasswords()
    with pytest.raises(AccountExists) as refusal:
        await registering(memory, passwords)(
            email=email, username=username, password=Password(PASSWORD)
        )
    assert len(passwords.hashed) == 1
    assert refusal.value.message == AccountExists().message
    assert not refusal.value.facts
    assert (len(memory.accounts), memory.published) == (1, [])


@pytest.mark.parametrize(
    ("parts", "failure"),
    [
        ({"email": "ada"}, InvalidEmail),
        ({"username": "a@b"}, InvalidUsername),
        ({"password": Password("short")}, PasswordRefused),
        ({"password": Password("hello adamantine")}, PasswordRefused),
    ],
)
async def test_a_bad_registration_costs_no_hash(
    parts: dict[str, object], failure: type[Exception]
) -> None:
    memory, passwords = Memory(), PlainPasswords()
    values: dict[str, object] = {
        "email": "ada@example.com",
        "username": "adamantine",
        "password": Password(PASSWORD),
    }
    with pytest.raises(failure):
        await registering(memory, passwords)(**(values | parts))  # type: ignore[arg-type]
    assert (passwords.hashed, memory.accounts) == ([], {})


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.BILLING])
async def test_the_console_opens_accounts_with_a_role(role: Role) -> None:
    memory = Memory()
    user = await CreateOperator(registering(memory))(
        email="root@example.com", username="rooted", password=Password(PASSWORD), role=role
    )
    assert memory.accounts[user.id].role is role
    assert memory.accounts[user.id].email_verified
    assert [fact.event for fact in memory.published] == [UserRegistered(user_id=user.id)]


async def test_the_console_does_not_take_over_an_account() -> None:
    memory = Memory().keep(a_user("ada"))
    with pytest.raises(AccountExists):
        await CreateOperator(registering(memory))(
            email="ada@example.com",
            username="other",
            password=Password(PASSWORD),
            role=Role.OPERATOR,
        )
    assert [user.role for user in memory.accounts.values()] == [Role.MEMBER]
