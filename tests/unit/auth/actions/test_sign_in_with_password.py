"""Signing in: one answer for all that is wrong, and a limit on guessing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.auth.actions._limit_guesses import count_failure
from services.auth.domain.attempts import EVERYBODY, CeilingPerMinute, GuessLimits, failures_of
from services.auth.domain.errors import (
    AccountInactive,
    PasswordsBusy,
    SigningKeysUnavailable,
    TooManyAttempts,
    UnknownClientAddress,
    WrongCredentials,
)
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.token_pair import TokenPair
from tests.support.auth import (
    LIMIT,
    LIMITS,
    NOON,
    PASSWORD,
    HeldKeys,
    Memory,
    PlainPasswords,
    StoppedClock,
    a_sign_in_action,
    a_user,
    an_issuer,
    hash_of,
    shown,
)


class Door:
    """A sign-in action, with its parts in reach."""

    def __init__(
        self,
        memory: Memory,
        passwords: PlainPasswords | None = None,
        limits: GuessLimits = LIMITS,
    ) -> None:
        self.memory = memory
        self.passwords = passwords or PlainPasswords()
        self.clock = StoppedClock()
        self.keys = HeldKeys(an_issuer().keys.current())
        self._action = a_sign_in_action(
            memory.work, self.passwords, an_issuer(self.keys), self.clock, limits
        )

    async def __call__(
        self, login: str, password: str = PASSWORD, *, address: str = "192.0.2.7"
    ) -> TokenPair:
        return await self._action(shown(login, password, address=address))


@pytest.mark.parametrize("login", ["ada@example.com", "ADA@Example.com ", "ada", " Ada"])
async def test_either_name_signs_in(login: str) -> None:
    user = a_user("ada")
    door = Door(Memory().keep(user))
    pair = await door(login)
    assert pair.user == replace(user, last_signed_in_at=NOON)
    [sign_in] = door.memory.devices.values()
    assert sign_in.belongs_to(user.id)
    assert sign_in.device == "a browser"


async def test_each_sign_in_is_one_of_its_own() -> None:
    door = Door(Memory().keep(a_user("ada")))
    tokens = {(await door("ada")).refresh_token for _ in range(3)}
    assert len(tokens) == len(door.memory.devices) == 3


async def test_unknown_user_and_wrong_password_cost_the_same_and_look_the_same() -> None:
    door = Door(Memory().keep(a_user("ada")))
    answers = []
    for login in ("ada", "nobody", "nobody@example.com", "\0", "a@b@c"):
        before = len(door.passwords.verified)
        with pytest.raises(WrongCredentials) as refusal:
            await door(login, "a wrong password")
        answers.append((refusal.value.code, refusal.value.message, dict(refusal.value.facts)))
        assert len(door.passwords.verified) - before == 1
    assert answers == [answers[0]] * len(answers)
    assert door.passwords.hashed == []
    assert door.memory.devices == {}


@pytest.mark.parametrize("login", ["ada", "ada@example.com", "nobody", "nobody@example.com"])
async def test_after_five_failures_even_the_right_password_waits(login: str) -> None:
    door = Door(Memory().keep(a_user("ada")))
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await door(login, "a wrong password")
    looked_at = len(door.passwords.verified)
    door.clock.forward(timedelta(seconds=10))
    with pytest.raises(TooManyAttempts) as refusal:
        await door(login)
    assert refusal.value.retry_after == timedelta(seconds=20)
    assert len(door.passwords.verified) == looked_at


async def test_after_the_wait_one_more_guess_is_looked_at() -> None:
    door = Door(Memory().keep(a_user("ada")))
    for wait in (0, 0, 0, 0, 0, 30, 60, 120):
        door.clock.forward(timedelta(seconds=wait))
        with pytest.raises(WrongCredentials):
            await door("ada", "a wrong password")
        if wait:
            with pytest.raises(TooManyAttempts) as refusal:
                await door("ada", "a wrong password")
            assert refusal.value.retry_after == timedelta(seconds=2 * wait)
    door.clock.forward(timedelta(seconds=240))
    assert (await door("ada")).user.username.text == "ada"


async def test_one_network_has_thirty_failures_whatever_it_guesses_at() -> None:
    door = Door(Memory().keep(a_user("ada")))
    for number in range(30):
        with pytest.raises(WrongCredentials):
            await door(f"nobody{number}", "a wrong password", address=f"2001:db8:0:1::{number:x}")
    with pytest.raises(TooManyAttempts):
        await door("ada", address="2001:db8:0:1:ffff::1")
    assert (await door("ada", address="2001:db8:0:2::1")).user.username.text == "ada"
    assert (await door("ada")).user.username.text == "ada"


async def test_successes_do_not_buy_a_network_more_failures() -> None:
    door = Door(Memory().keep(a_user("ada")))
    for number in range(30):
        with pytest.raises(WrongCredentials):
            await door(f"nobody{number}")
        if number < 29:
            await door("ada")
    with pytest.raises(TooManyAttempts):
        await door("ada")


async def test_a_spray_from_everywhere_meets_the_ceiling_for_all() -> None:
    limits = replace(LIMITS, everybody=CeilingPerMinute(12))
    door = Door(Memory().keep(a_user("ada")), limits=limits)
    for number in range(12):
        with pytest.raises(WrongCredentials):
            await door(f"nobody{number}", "a wrong password", address=f"198.51.100.{number}")
    before = len(door.passwords.verified)
    with pytest.raises(TooManyAttempts) as refusal:
        await door("ada", address="203.0.113.1")
    assert refusal.value.retry_after == timedelta(minutes=1)
    assert len(door.passwords.verified) == before, "and it costs no hash"
    door.clock.forward(timedelta(minutes=1))
    assert (await door("ada", address="203.0.113.1")).user.username.text == "ada"


async def test_a_success_writes_no_count() -> None:
    door = Door(Memory().keep(a_user("ada")))
    await door("ada")
    assert door.memory.failures == {}


async def test_from_nowhere_nobody_signs_in() -> None:
    door = Door(Memory().keep(a_user("ada")))
    with pytest.raises(UnknownClientAddress):
        await door("ada", address="nonsense")
    assert door.passwords.verified == []


async def test_the_limit_ends_with_its_window() -> None:
    door = Door(Memory().keep(a_user("ada")))
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await door("ada", "a wrong password")
    door.clock.forward(timedelta(minutes=15))
    assert (await door("ada")).user.username.text == "ada"


async def test_another_account_is_not_limited() -> None:
    door = Door(Memory().keep(a_user("ada"), a_user("grace")))
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await door("ada", "a wrong password")
    assert (await door("grace")).user.username.text == "grace"


async def test_changing_between_names_or_spellings_wins_no_attempts() -> None:
    door = Door(Memory().keep(a_user("ada")))
    for login in ("ada", "ADA", " ada", "ada@example.com", "Ada@EXAMPLE.com"):
        with pytest.raises(WrongCredentials):
            await door(login, "a wrong password")
    with pytest.raises(TooManyAttempts):
        await door("ａｄａ", "a wrong password")


async def test_a_success_forgets_the_failures_before_it() -> None:
    door = Door(Memory().keep(a_user("ada")))
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(WrongCredentials):
                await door("ada", "a wrong password")
        await door("ada")
    assert not any(subject.startswith("login:") for subject in door.memory.failures)


async def test_an_inactive_account_is_told_so_only_with_its_password() -> None:
    door = Door(Memory().keep(a_user("ada", is_active=False)))
    with pytest.raises(WrongCredentials):
        await door("ada", "a wrong password")
    with pytest.raises(AccountInactive):
        await door("ada")
    assert door.memory.devices == {}


async def test_without_signing_keys_nobody_gets_as_far_as_a_hash() -> None:
    door = Door(Memory().keep(a_user("ada")))
    door.keys.keys = None
    with pytest.raises(SigningKeysUnavailable):
        await door("ada")
    assert door.passwords.verified == []


async def test_an_old_hash_is_renewed_at_sign_in() -> None:
    user = a_user("ada")
    door = Door(Memory().keep(user))
    door.passwords.outdated = True
    await door("ada")
    kept = door.memory.accounts[user.id]
    assert kept.password == hash_of(PASSWORD, made=1) != user.password
    assert kept.has_password_of(user)


async def test_a_busy_gate_does_not_stop_a_sign_in_for_a_rehash() -> None:
    class NoRoomForMore(PlainPasswords):
        async def hash(self, password: Password, origin: Origin) -> PasswordHash:
            raise PasswordsBusy

    user = a_user("ada")
    door = Door(Memory().keep(user), NoRoomForMore())
    door.passwords.outdated = True
    assert (await door("ada")).user.password == user.password


async def test_a_password_changed_meanwhile_does_not_sign_in() -> None:
    user = a_user("ada")
    memory = Memory().keep(user)

    class ChangedWhileVerifying(PlainPasswords):
        async def verify(
            self, password: Password, hash_: PasswordHash | None, origin: Origin
        ) -> bool:
            later = NOON + timedelta(seconds=1)
            memory.keep(user.with_password(hash_of("another one"), later))
            return await super().verify(password, hash_, origin)

    with pytest.raises(WrongCredentials):
        await Door(memory, ChangedWhileVerifying())("ada")
    assert memory.devices == {}


async def test_each_failure_stands_in_the_trail_without_what_was_typed() -> None:
    ada = a_user("ada")
    door = Door(Memory().keep(ada))
    for login in ("ada", "a password by mistake"):
        with pytest.raises(WrongCredentials):
            await door(login, "a wrong password")
    assert [(line.action, line.user_id, line.at) for line in door.memory.audited] == [
        ("sign_in.failed", ada.id, NOON),
        ("sign_in.failed", None, NOON),
    ]
    assert {line.origin.address for line in door.memory.audited} == {"192.0.2.7"}
    assert [dict(line.facts) for line in door.memory.audited] == [{}, {}]


async def test_while_all_are_being_guessed_at_a_late_right_guess_is_not_told() -> None:
    memory = Memory().keep(a_user("ada"))
    limits = replace(LIMITS, everybody=CeilingPerMinute(3))

    class OthersFailMeanwhile(PlainPasswords):
        async def verify(
            self, password: Password, hash_: PasswordHash | None, origin: Origin
        ) -> bool:
            async with memory.work() as work:
                window = limits.everybody.window_from(NOON)
                for _ in range(3):
                    await work.login_failures.add(EVERYBODY, NOON, window_ends_at=window)
            return await super().verify(password, hash_, origin)

    with pytest.raises(TooManyAttempts):
        await Door(memory, OthersFailMeanwhile(), limits)("ada")
    assert memory.devices == {}


async def test_a_late_right_guess_among_many_at_once_is_not_told() -> None:
    user = a_user("ada")
    memory = Memory().keep(user)

    class OthersFailMeanwhile(PlainPasswords):
        async def verify(
            self, password: Password, hash_: PasswordHash | None, origin: Origin
        ) -> bool:
            async with memory.work() as work:
                for _ in range(5):
                    await count_failure(work, failures_of(user.id), LIMIT, StoppedClock())
            return await super().verify(password, hash_, origin)

    with pytest.raises(TooManyAttempts):
        await Door(memory, OthersFailMeanwhile())("ada")
    assert memory.devices == {}


async def test_the_token_carries_the_tier_of_the_moment() -> None:
    user = a_user("ada")
    door = Door(Memory().keep(user))
    door.memory.keep(replace(user, tier="pro", tier_revision=1))
    assert (await door("ada")).user.tier == "pro"
