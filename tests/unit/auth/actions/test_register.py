"""Opening an account."""

from datetime import timedelta

import pytest

from services.auth.actions.create_operator import CreateOperator
from services.auth.actions.limit_asking import LimitAsking
from services.auth.actions.register import Register
from services.auth.domain.attempts import AskingLimit
from services.auth.domain.errors import (
    AddressTaken,
    InvalidEmail,
    InvalidUsername,
    PasswordRefused,
    PasswordsBusy,
    TooManyAttempts,
    UnknownClientAddress,
    UsernameTaken,
)
from services.auth.domain.mail import MailKind
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.password import Password
from services.auth.domain.user import Role
from shared.events.user import UserRegistered
from tests.support.auth import PASSWORD, Memory, PlainPasswords, StoppedClock, a_user
from tests.support.auth_mails import PlainRules

BROWSER = Origin("a browser", "192.0.2.7")
HOUR = timedelta(hours=1)


def registering(
    memory: Memory, passwords: PlainPasswords | None = None, clock: StoppedClock | None = None
) -> Register:
    clock = clock or StoppedClock()
    tries = LimitAsking("try", AskingLimit(8, HOUR), clock)
    accounts = LimitAsking("register", AskingLimit(3, HOUR), clock)
    passwords = passwords or PlainPasswords()
    return Register(memory.work, passwords, PlainRules(), tries, accounts, clock)


async def test_a_new_account_is_kept_and_told_of() -> None:
    memory = Memory()
    user = await registering(memory)(
        email="Ada@Example.com", username="Ada", password=Password(PASSWORD), origin=BROWSER
    )
    assert memory.accounts == {user.id: user}
    [fact] = memory.published
    assert fact.event == UserRegistered(user_id=user.id)
    assert (fact.subject, fact.tier, fact.stream) == (user.id, "free", "user.registered.free")


async def test_the_password_is_hashed_exactly_as_typed() -> None:
    typed = "  Ame\u0301lie ﬁne  \t"
    passwords = PlainPasswords()
    await registering(Memory(), passwords)(
        email="ada@example.com", username="ada", password=Password(typed), origin=BROWSER
    )
    assert passwords.hashed == [typed]


async def test_a_taken_username_is_refused_and_nothing_of_it_is_left() -> None:
    memory = Memory().keep(a_user("ada"))
    with pytest.raises(UsernameTaken):
        await registering(memory)(
            email="somebody@example.com",
            username="aDa",
            password=Password(PASSWORD),
            origin=BROWSER,
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
        "origin": BROWSER,
    }
    with pytest.raises(failure):
        await registering(memory, passwords)(**(values | parts))  # type: ignore[arg-type]
    assert (passwords.hashed, memory.accounts) == ([], {})


class Network:
    """Somebody, or a school, behind one address."""

    def __init__(self) -> None:
        self.memory, self.passwords, self.clock = Memory(), PlainPasswords(), StoppedClock()
        self._register = registering(self.memory, self.passwords, self.clock)

    async def opens(self, name: str, password: str = PASSWORD, *, origin: Origin = BROWSER) -> None:
        await self._register(
            email=f"{name}@example.com", username=name, password=Password(password), origin=origin
        )


async def test_a_network_opens_so_many_accounts_each_hour() -> None:
    network = Network()
    for number in range(3):
        await network.opens(f"n{number}")
        network.clock.forward(timedelta(minutes=5))
    # Whoever goes on asking makes nobody wait longer.
    for _ in range(20):
        with pytest.raises(TooManyAttempts) as refusal:
            await network.opens("n3")
        assert refusal.value.retry_after == timedelta(minutes=45)
    assert len(network.passwords.hashed) == len(network.memory.accounts) == 3
    await network.opens("n9", origin=Origin("a browser", "198.51.100.9"))
    network.clock.forward(timedelta(minutes=45))
    for number in range(3, 6):
        await network.opens(f"n{number}")
    with pytest.raises(TooManyAttempts):
        await network.opens("n6")
    with pytest.raises(UnknownClientAddress):
        await network.opens("n7", origin=NOWHERE)


async def test_a_try_that_comes_to_nothing_is_no_account() -> None:
    network = Network()
    await network.opens("ada")
    for _ in range(2):
        with pytest.raises(PasswordRefused):
            await network.opens("grace", "short")
        with pytest.raises(UsernameTaken):
            await network.opens("ADA")
        with pytest.raises(InvalidEmail):
            await network.opens("a@b")
    assert network.passwords.hashed == [PASSWORD], "a taken name costs no hash"
    await network.opens("grace")
    await network.opens("mary")
    assert len(network.memory.accounts) == 3


async def test_tries_have_a_limit_of_their_own() -> None:
    """They cost an estimate of the password, and tell which usernames there are."""
    network = Network()
    for _ in range(8):
        with pytest.raises(PasswordRefused):
            await network.opens("grace", "short")
    with pytest.raises(TooManyAttempts):
        await network.opens("grace")
    assert network.passwords.hashed == []
    network.clock.forward(HOUR)
    await network.opens("grace")


async def test_whoever_finds_the_gate_full_has_opened_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network()

    def full(_self: PlainPasswords, _origin: Origin) -> None:
        raise PasswordsBusy

    with monkeypatch.context() as patch:
        patch.setattr(PlainPasswords, "refuse_if_full", full)
        for _ in range(3):
            with pytest.raises(PasswordsBusy):
                await network.opens("ada")
    for name in ("ada", "grace", "mary"):
        await network.opens(name)


async def test_a_refusal_writes_nothing() -> None:
    network = Network()
    for number in range(3):
        await network.opens(f"n{number}")
    before = dict(network.memory.failures)
    with pytest.raises(TooManyAttempts):
        await network.opens("n3")
    assert network.memory.failures == before


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
