"""An account in the hands of its owner and of peers."""

from datetime import timedelta

import pytest

from services.auth.actions.change_password import ChangePassword
from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.actions.rename_account import RenameAccount
from services.auth.actions.show_account import ShowAccount
from services.auth.domain.errors import (
    AccountGone,
    InvalidUsername,
    PasswordRefused,
    TooManyAttempts,
    UsernameTaken,
    WrongPassword,
)
from services.auth.domain.mail import MailKind
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import User
from tests.support.auth import (
    LIMIT,
    NOON,
    PASSWORD,
    Memory,
    PlainPasswords,
    StoppedClock,
    a_sign_in,
    a_user,
    hash_of,
)
from tests.support.auth_mails import PlainRules

BROWSER = Origin("a browser", "192.0.2.7")
NEW = "eleven geese cross a bridge"


def changing(memory: Memory, passwords: PlainPasswords, clock: StoppedClock) -> ChangePassword:
    confirm = ConfirmPassword(memory.work, passwords, LIMIT, clock)
    return ChangePassword(memory.work, confirm, PlainRules())


class Desk:
    """The password action, with its parts in reach."""

    def __init__(self, user: User, passwords: PlainPasswords | None = None) -> None:
        self.user = user
        self.here, self.there = a_sign_in(user), a_sign_in(user)
        self.memory = Memory().keep(user, self.here, self.there)
        self.passwords = passwords or PlainPasswords()
        self.clock = StoppedClock(NOON + timedelta(hours=1))
        self._action = changing(self.memory, self.passwords, self.clock)

    async def change(self, current: str = PASSWORD, new: str = NEW) -> None:
        await self._action(
            self.user.id,
            current=Password(current),
            new=Password(new),
            keep=self.here.id,
            origin=BROWSER,
        )


async def test_a_changed_password_ends_every_other_device() -> None:
    desk = Desk(a_user())
    await desk.change()
    kept = desk.memory.accounts[desk.user.id]
    assert kept.password == hash_of(NEW, made=1)
    assert not kept.has_password_of(desk.user)
    assert desk.memory.reasons == {desk.there.id: EndReason.PASSWORD_CHANGED}
    [mail] = desk.memory.mails
    assert (mail.kind, mail.recipient) == (MailKind.PASSWORD_CHANGED, desk.user.email)
    assert mail.facts["address"] == BROWSER.address
    assert [entry.action for entry in desk.memory.audited] == ["password.changed"]


async def test_without_the_old_password_nothing_changes() -> None:
    desk = Desk(a_user())
    with pytest.raises(WrongPassword):
        await desk.change(current="a wrong password")
    assert desk.memory.accounts[desk.user.id] == desk.user
    assert desk.memory.reasons == {}


async def test_guessing_the_old_password_is_limited_without_locking_the_login() -> None:
    desk = Desk(a_user())
    for _ in range(5):
        with pytest.raises(WrongPassword):
            await desk.change(current="a wrong password")
    with pytest.raises(TooManyAttempts):
        await desk.change()
    assert list(desk.memory.failures) == [f"password:{desk.user.id}"]


@pytest.mark.parametrize("new", ["short", "password1234", "my name is analyst"])
async def test_a_weak_new_password_is_refused(new: str) -> None:
    desk = Desk(a_user("analyst"))
    with pytest.raises(PasswordRefused):
        await desk.change(new=new)
    assert desk.memory.accounts[desk.user.id] == desk.user


async def test_of_two_changes_at_once_one_wins() -> None:
    user = a_user()

    class ChangedMeanwhile(PlainPasswords):
        async def hash(self, password: Password, origin: Origin) -> PasswordHash:
            desk.memory.keep(user.with_password(hash_of("the other one"), desk.clock.now()))
            return await super().hash(password, origin)

    desk = Desk(user, ChangedMeanwhile())
    with pytest.raises(WrongPassword):
        await desk.change()
    assert desk.memory.accounts[user.id].password == hash_of("the other one")


async def test_a_user_may_be_renamed_and_respelled() -> None:
    user = a_user("ada")
    memory = Memory().keep(user)
    for name in ("countess", "Countess"):
        renamed = await RenameAccount(memory.work, StoppedClock())(user.id, name)
        assert memory.accounts[user.id] == renamed
        assert renamed.username.text == name


async def test_a_taken_or_impossible_username_is_refused() -> None:
    ada = a_user("ada")
    memory = Memory().keep(ada, a_user("grace"))
    rename = RenameAccount(memory.work, StoppedClock())
    with pytest.raises(UsernameTaken):
        await rename(ada.id, "GRACE")
    with pytest.raises(InvalidUsername):
        await rename(ada.id, "a\0b")
    assert memory.accounts[ada.id] == ada


async def test_a_deleted_user_with_a_good_token_is_told_so() -> None:
    memory, user = Memory(), a_user()
    with pytest.raises(AccountGone):
        await ShowAccount(memory.work)(user.id)
    with pytest.raises(AccountGone):
        await RenameAccount(memory.work, StoppedClock())(user.id, "other")
    with pytest.raises(AccountGone):
        await changing(memory, PlainPasswords(), StoppedClock())(
            user.id,
            current=Password(PASSWORD),
            new=Password(NEW),
            keep=a_sign_in(user).id,
            origin=BROWSER,
        )
