"""Opening an account."""

import pytest

from services.auth.actions.create_operator import CreateOperator
from services.auth.actions.register import Register
from services.auth.domain.errors import (
    AddressTaken,
    InvalidEmail,
    InvalidUsername,
    PasswordRefused,
    UsernameTaken,
)
from services.auth.domain.mail import MailKind
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from services.auth.domain.user import Role
from shared.events.user import UserRegistered
from tests.support.auth import PASSWORD, Memory, PlainPasswords, StoppedClock, a_user
from tests.support.auth_mails import PlainRules

BROWSER = Origin("a browser", "192.0.2.7")


def registering(memory: Memory, passwords: PlainPasswords | None = None) -> Register:
    return Register(memory.work, passwords or PlainPasswords(), PlainRules(), StoppedClock())


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


async def test_a_taken_username_is_refused_and_nothing_of_it_is_left() -> None:
    memory = Memory().keep(a_user("ada"))
    with pytest.raises(UsernameTaken):
        await registering(memory)(
            email="somebody@example.com", username="aDa", password=Password(PASSWORD)
        )
    assert (len(memory.accounts), memory.published) == (1, [])
    assert (memory.mails, memory.audited) == ([], [])


@pytest.mark.parametrize("verified", [True, False])
async def test_an_address_that_somebody_has_changes_nothing_that_can_be_seen(
    verified: bool,
) -> None:
    memory, passwords = Memory().keep(a_user("ada", email_verified=verified)), PlainPasswords()
    user = await registering(memory, passwords)(
        email="ADA@example.com", username="somebody", password=Password(PASSWORD), origin=BROWSER
    )
    assert not memory.accounts[user.id].email_verified
    # The same rows as for a new address: what is said is decided when the mail is sent.
    [mail] = memory.mails
    assert (mail.kind, mail.recipient) == (MailKind.VERIFY_EMAIL, user.email)
    [entry] = memory.audited
    assert (entry.action, entry.user_id) == ("account.registered", user.id)
    assert entry.origin == BROWSER
    assert passwords.hashed == [PASSWORD]


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
    assert memory.mails == []
    assert [fact.event for fact in memory.published] == [UserRegistered(user_id=user.id)]


async def test_the_console_does_not_take_over_an_account() -> None:
    memory = Memory().keep(a_user("ada", email_verified=True))
    with pytest.raises(AddressTaken):
        await CreateOperator(registering(memory))(
            email="ada@example.com",
            username="other",
            password=Password(PASSWORD),
            role=Role.OPERATOR,
        )
    assert [user.role for user in memory.accounts.values()] == [Role.MEMBER]
