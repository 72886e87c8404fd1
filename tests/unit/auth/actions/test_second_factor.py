"""Setting up a second factor, signing in with it, and losing it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.auth.actions._limit_guesses import count_failure
from services.auth.actions.begin_totp import BeginTotp, BegunTotp
from services.auth.actions.check_second_factor import CheckSecondFactor
from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.actions.confirm_totp import ConfirmTotp
from services.auth.actions.remove_totp import RemoveTotp
from services.auth.actions.renew_recovery_codes import RenewRecoveryCodes
from services.auth.actions.reset_second_factor import ResetSecondFactor
from services.auth.actions.show_second_factor import SecondFactorState, ShowSecondFactor
from services.auth.actions.step_up import StepUp
from services.auth.domain.attempts import failures_of
from services.auth.domain.errors import (
    AccountInactive,
    NoSuchAccount,
    OtpRefused,
    OtpRequired,
    TooManyAttempts,
    TotpActive,
    TotpNotActive,
    TotpNotBegun,
    WrongCredentials,
    WrongOtp,
    WrongPassword,
)
from services.auth.domain.mail import MailKind
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.sign_in import EndReason, SignIn
from services.auth.domain.token_pair import TokenPair
from services.auth.domain.user import User
from shared.errors import SessionEnded
from tests.support.auth import (
    LIMIT,
    NOON,
    PASSWORD,
    Memory,
    PlainPasswords,
    StoppedClock,
    a_sign_in,
    a_sign_in_action,
    a_user,
    an_issuer,
    hash_of,
    shown,
)
from tests.support.auth_second_factors import code_at, wrong_code

HERE = Origin.of("a browser", "192.0.2.7")
STEP = timedelta(seconds=30)
NEVER_A_CODE = "abcdef"


class House:
    """An account with one sign-in, and every verb about its second factor."""

    def __init__(self, passwords: PlainPasswords | None = None) -> None:
        self.user = a_user("ada")
        self.device: SignIn = a_sign_in(self.user)
        self.memory = Memory().keep(self.user, self.device)
        self.clock = StoppedClock()
        self.passwords = passwords or PlainPasswords()
        work, clock = self.memory.work, self.clock
        factor = CheckSecondFactor(LIMIT, clock)
        self._begin = BeginTotp(work, "Companion", clock)
        self._confirm = ConfirmTotp(work, LIMIT, clock)
        self._remove = RemoveTotp(work, clock)
        self._renew = RenewRecoveryCodes(work, clock)
        self._show = ShowSecondFactor(work)
        self._sign_in = a_sign_in_action(work, self.passwords, an_issuer(), clock)
        confirm = ConfirmPassword(work, self.passwords, LIMIT, clock)
        self._step_up = StepUp(work, confirm, factor, an_issuer())
        self.secret = ""

    async def begin(self) -> BegunTotp:
        begun = await self._begin(self.user.id)
        self.secret = begun.totp.secret
        return begun

    async def confirm(self, code: str | None = None) -> list[str]:
        code = self.code if code is None else code
        codes = await self._confirm(self.user.id, code, keep=self.device.id, origin=HERE)
        return [one.shown for one in codes]

    async def with_totp(self) -> list[str]:
        """Set up; its recovery codes. The clock has moved on, so that there is a code to use."""
        await self.begin()
        codes = await self.confirm()
        self.clock.forward(STEP)
        return codes

    async def remove(self) -> None:
        await self._remove(self.user.id, keep=self.device.id, origin=HERE)

    async def renew(self) -> list[str]:
        return [one.shown for one in await self._renew(self.user.id, HERE)]

    async def state(self) -> SecondFactorState:
        return await self._show(self.user.id)

    async def sign_in(self, otp: str | None = None, password: str = PASSWORD) -> TokenPair:
        return await self._sign_in(shown("ada", password, otp=otp))

    async def step_up(self, otp: str | None = None, password: str = PASSWORD) -> str:
        return await self._step_up(
            self.user.id,
            sign_in_id=self.device.id,
            password=Password(password),
            code=otp,
            origin=HERE,
        )

    @property
    def code(self) -> str:
        return code_at(self.secret, self.clock.now())

    @property
    def wrong(self) -> str:
        return wrong_code(self.secret, self.clock.now())

    @property
    def kept(self) -> User:
        return self.memory.accounts[self.user.id]

    @property
    def acting(self) -> SignIn:
        return self.memory.devices[self.device.id]

    def newest(self) -> SignIn:
        return max(self.memory.devices.values(), key=lambda device: device.id)

    def noted(self) -> list[str]:
        return [entry.action for entry in self.memory.audited]


async def test_what_was_only_begun_protects_nothing() -> None:
    house = House()
    await house.begin()
    assert await house.state() == SecondFactorState(None, 0)
    await house.sign_in()
    assert house.newest().methods == {"pwd"}
    assert house.noted() == ["sign_in.begun"]


async def test_what_was_only_begun_proves_nothing_either() -> None:
    house = House()
    check = CheckSecondFactor(LIMIT, house.clock)
    async with house.memory.work() as work:
        assert await check(work, house.user, "123456", HERE) is None, "there is none"
    await house.begin()
    async with house.memory.work() as work:
        assert await check(work, house.user, house.code, HERE) is None


async def test_beginning_again_makes_a_new_secret_and_the_old_one_is_void() -> None:
    house = House()
    first = (await house.begin()).totp.secret
    house.clock.forward(timedelta(seconds=1))
    second = await house.begin()
    assert second.totp.secret != first
    assert second.totp.secret in second.uri
    with pytest.raises(WrongOtp):
        await house.confirm(code_at(first, house.clock.now()))
    assert len(await house.confirm()) == 10


async def test_a_confirmed_one_ends_all_other_sign_ins_and_tells_the_owner() -> None:
    house = House()
    elsewhere = a_sign_in(house.user)
    house.memory.keep(elsewhere)
    await house.with_totp()
    assert house.memory.reasons == {elsewhere.id: EndReason.SECOND_FACTOR_CHANGED}
    assert house.acting.methods == {"pwd", "otp"}
    assert house.acting.authenticated_at == NOON
    assert house.kept.has_second_factor
    assert house.noted() == ["second_factor.added"]
    assert [mail.kind for mail in house.memory.mails] == [MailKind.NEW_FACTOR]
    assert await house.state() == SecondFactorState(NOON, 10)
    with pytest.raises(TotpActive):
        await house.begin()
    with pytest.raises(TotpActive):
        await house.confirm()


async def test_confirming_needs_a_beginning_that_is_not_long_ago() -> None:
    house = House()
    with pytest.raises(TotpNotBegun):
        await house.confirm("123456")
    await house.begin()
    house.clock.forward(timedelta(minutes=15))
    with pytest.raises(TotpNotBegun):
        await house.confirm()


async def test_wrong_codes_at_the_confirmation_are_counted() -> None:
    house = House()
    await house.begin()
    for _ in range(5):
        with pytest.raises(WrongOtp):
            await house.confirm(house.wrong)
    with pytest.raises(TooManyAttempts):
        await house.confirm()
    house.clock.forward(LIMIT.first_delay)
    assert len(await house.confirm()) == 10


async def test_the_code_that_confirmed_does_not_sign_in() -> None:
    house = House()
    await house.begin()
    code = house.code
    await house.confirm(code)
    with pytest.raises(OtpRefused):
        await house.sign_in(code)


async def test_a_password_alone_is_told_that_a_code_is_needed() -> None:
    house = House()
    await house.with_totp()
    for _ in range(20):  # No failure, however often: a login page asks in two steps.
        with pytest.raises(OtpRequired):
            await house.sign_in()
    assert house.memory.failures == {}
    await house.sign_in(house.code)
    assert house.newest().methods == {"pwd", "otp"}


async def test_a_wrong_password_hears_nothing_of_a_second_factor() -> None:
    house = House()
    await house.with_totp()
    for otp in (None, house.code, house.wrong):
        with pytest.raises(WrongCredentials):
            await house.sign_in(otp, "a wrong password")
    await house.sign_in(house.code)  # which the wrong password has not used up


async def test_who_has_to_wait_does_not_hear_that_a_code_is_needed() -> None:
    house = House()
    await house.with_totp()
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await house.sign_in(None, "a wrong password")
    for otp in (None, house.code, house.wrong):
        with pytest.raises(TooManyAttempts):
            await house.sign_in(otp)


async def test_of_parallel_guesses_a_late_right_one_does_not_hear_it_either() -> None:
    class OthersFailMeanwhile(PlainPasswords):
        async def verify(
            self, password: Password, hash_: PasswordHash | None, origin: Origin
        ) -> bool:
            async with house.memory.work() as work:
                for _ in range(5):
                    await count_failure(work, failures_of(house.user.id), LIMIT, house.clock)
            return await super().verify(password, hash_, origin)

    house = House(OthersFailMeanwhile())
    await house.with_totp()
    for otp in (None, house.code):
        house.memory.failures.clear()
        with pytest.raises(TooManyAttempts):
            await house.sign_in(otp)


async def test_being_told_of_the_second_factor_does_not_forgive_guesses() -> None:
    house = House()
    await house.with_totp()
    for _ in range(4):
        with pytest.raises(WrongCredentials):
            await house.sign_in(None, "a wrong password")
        with pytest.raises(OtpRequired):
            await house.sign_in()
    with pytest.raises(WrongCredentials):
        await house.sign_in(None, "a wrong password")
    with pytest.raises(TooManyAttempts):
        await house.sign_in()


async def test_five_wrong_codes_and_then_waits_that_grow() -> None:
    house = House()
    await house.with_totp()
    for wait in (0, 0, 0, 0, 0, 30, 60):
        house.clock.forward(timedelta(seconds=wait))
        with pytest.raises(OtpRefused):
            await house.sign_in(house.wrong)
    with pytest.raises(TooManyAttempts) as refusal:
        await house.sign_in(house.code)
    assert refusal.value.retry_after == timedelta(seconds=120)
    house.clock.forward(timedelta(seconds=120))
    await house.sign_in(house.code)
    assert house.noted().count("second_factor.refused") == 7
    assert f"otp:{house.user.id}" not in house.memory.failures


@pytest.mark.parametrize("otp", ["", " 123456", "１２３４５６", NEVER_A_CODE, "a" * 64, "\0"])
async def test_what_is_no_code_counts_as_a_wrong_one(otp: str) -> None:
    house = House()
    await house.with_totp()
    with pytest.raises(OtpRefused):
        await house.sign_in(otp)
    assert house.memory.failures[f"otp:{house.user.id}"].count == 1


async def test_a_code_is_good_once() -> None:
    house = House()
    await house.with_totp()
    await house.sign_in(house.code)
    with pytest.raises(OtpRefused):
        await house.sign_in(house.code)
    with pytest.raises(WrongOtp):
        await house.step_up(house.code)


async def test_a_recovery_code_signs_in_once() -> None:
    house = House()
    [code, other, *_] = await house.with_totp()
    await house.sign_in(code.upper())
    assert house.newest().methods == {"pwd", "recovery"}
    assert (await house.state()).recovery_codes_left == 9
    assert "recovery_code.used" in house.noted()
    with pytest.raises(OtpRefused):
        await house.sign_in(code)
    await house.sign_in(other)


async def test_another_users_recovery_code_is_none() -> None:
    house, other = House(), House()
    await house.with_totp()
    [code, *_] = await other.with_totp()
    with pytest.raises(OtpRefused):
        await house.sign_in(code)


async def test_new_recovery_codes_replace_the_old_ones() -> None:
    house = House()
    with pytest.raises(TotpNotActive):
        await house.renew()
    old = await house.with_totp()
    new = await house.renew()
    assert len(set(old) | set(new)) == 20
    with pytest.raises(OtpRefused):
        await house.sign_in(old[0])
    await house.sign_in(new[0])
    assert "recovery_codes.renewed" in house.noted()


async def test_the_console_lets_somebody_in_who_lost_everything() -> None:
    house = House()
    reset = ResetSecondFactor(house.memory.work, house.clock)
    with pytest.raises(NoSuchAccount):
        await reset("nobody")
    with pytest.raises(TotpNotActive):
        await reset("ada")
    await house.with_totp()
    await reset("Ada@Example.com")
    # Whoever asked may have been somebody else: nothing goes on that was begun before.
    assert house.memory.reasons == {house.device.id: EndReason.SECOND_FACTOR_CHANGED}
    assert house.memory.mails[-1].kind is MailKind.FACTOR_REMOVED
    assert house.noted()[-1] == "second_factor.reset"
    assert await house.state() == SecondFactorState(None, 0)
    await house.sign_in()


async def test_removing_it_ends_all_other_sign_ins_and_tells_the_owner() -> None:
    house = House()
    with pytest.raises(TotpNotActive):
        await house.remove()
    codes = await house.with_totp()
    elsewhere = a_sign_in(house.user)
    house.memory.keep(elsewhere)
    await house.remove()
    assert house.memory.reasons == {elsewhere.id: EndReason.SECOND_FACTOR_CHANGED}
    assert house.memory.mails[-1].kind is MailKind.FACTOR_REMOVED
    assert house.noted()[-1] == "second_factor.removed"
    assert await house.state() == SecondFactorState(None, 0)
    await house.sign_in()
    await house.begin()
    await house.confirm()
    with pytest.raises(OtpRefused):
        await house.sign_in(codes[0])


async def test_a_new_password_does_not_stand_in_for_the_code() -> None:
    house = House()
    await house.with_totp()
    later = NOON + timedelta(minutes=1)
    house.memory.keep(house.kept.with_password(hash_of("eleven geese"), later))
    with pytest.raises(OtpRequired):
        await house.sign_in(None, "eleven geese")


async def test_a_factor_set_up_while_the_password_was_checked_is_asked_for() -> None:
    class SetUpMeanwhile(PlainPasswords):
        async def verify(
            self, password: Password, hash_: PasswordHash | None, origin: Origin
        ) -> bool:
            house.memory.keep(replace(house.user, has_second_factor=True))
            return await super().verify(password, hash_, origin)

    house = House(SetUpMeanwhile())
    with pytest.raises(OtpRequired):
        await house.sign_in()
    assert set(house.memory.devices) == {house.device.id}


async def test_a_step_up_makes_the_proof_fresh() -> None:
    house = House()
    house.clock.forward(timedelta(hours=9))
    await house.step_up()
    assert house.acting.authenticated_at == NOON + timedelta(hours=9)
    assert house.acting.methods == {"pwd"}
    assert house.noted() == ["identity.proven_again"]


async def test_a_step_up_needs_the_code_too() -> None:
    house = House()
    [recovery, *_] = await house.with_totp()
    with pytest.raises(OtpRequired):
        await house.step_up()
    with pytest.raises(WrongOtp):
        await house.step_up(house.wrong)
    assert house.acting.authenticated_at == NOON
    await house.step_up(house.code)
    assert house.acting.authenticated_at == NOON + STEP
    assert house.acting.methods == {"pwd", "otp"}
    await house.step_up(recovery)
    assert house.acting.methods == {"pwd", "recovery"}


async def test_guesses_at_a_step_up_are_counted_apart_from_logins() -> None:
    house = House()
    for _ in range(5):
        with pytest.raises(WrongPassword):
            await house.step_up(password="a wrong password")
    with pytest.raises(TooManyAttempts):
        await house.step_up()
    await house.sign_in()


async def test_wrong_codes_count_together_wherever_they_are_tried() -> None:
    house = House()
    await house.with_totp()
    for _ in range(3):
        with pytest.raises(WrongOtp):
            await house.step_up(house.wrong)
    for _ in range(2):
        with pytest.raises(OtpRefused):
            await house.sign_in(house.wrong)
    with pytest.raises(TooManyAttempts):
        await house.step_up(house.code)


async def test_nobody_steps_up_in_a_sign_in_that_is_over_or_anothers() -> None:
    house = House()
    grace = a_user("grace")
    for device in (
        replace(house.device, ended_at=NOON),
        replace(house.device, expires_at=NOON),
        replace(house.device, user_id=grace.id),
    ):
        house.memory.keep(device)
        with pytest.raises(SessionEnded):
            await house.step_up()


async def test_an_account_that_was_switched_off_does_not_step_up() -> None:
    house = House()
    house.memory.keep(replace(house.user, is_active=False))
    with pytest.raises(AccountInactive):
        await house.step_up()
