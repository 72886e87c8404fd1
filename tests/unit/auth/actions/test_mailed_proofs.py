"""What only who reads the mail of an address can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from services.auth.actions._limit_guesses import count_failure
from services.auth.actions.begin_totp import BeginTotp
from services.auth.actions.change_password import ChangePassword
from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.actions.confirm_totp import ConfirmTotp
from services.auth.actions.forget_expired import ForgetExpired
from services.auth.actions.limit_asking import LimitAsking
from services.auth.actions.remove_totp import RemoveTotp
from services.auth.actions.request_email_change import RequestEmailChange
from services.auth.actions.request_password_reset import RequestPasswordReset
from services.auth.actions.resend_verification import ResendVerification
from services.auth.actions.reset_password import ResetPassword
from services.auth.actions.reset_second_factor import ResetSecondFactor
from services.auth.actions.send_mails import SendMails
from services.auth.actions.verify_email import VerifyEmail
from services.auth.actions.write_letter import WriteLetter
from services.auth.domain.attempts import AskingLimit, failures_at_password_change
from services.auth.domain.errors import (
    AddressTaken,
    PasswordRefused,
    ProofRefused,
    TooManyAttempts,
    WrongCredentials,
    WrongPassword,
)
from services.auth.domain.letter import Letter
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose, ProofToken
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import EmailAddress, User
from shared.events.user import UserDeleted
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
    hash_of,
    shown,
)
from tests.support.auth_mails import KeptLetters, PlainRules, token_in
from tests.support.auth_personal_tokens import a_personal_token
from tests.support.auth_second_factors import code_at

NEW = "eleven geese cross a bridge"
BROWSER = Origin("a browser", "192.0.2.7")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class House:
    """Accounts, their mail, and all that is done with it."""

    def __init__(self, *users: User, most_per_hour: int = 5) -> None:
        self.memory = Memory().keep(*users)
        self.clock, self.mailer = StoppedClock(), KeptLetters()
        self.passwords = PlainPasswords()
        work = self.memory.work
        write = WriteLetter("https://companion.example.com", most_per_hour, self.clock)
        self.send = SendMails(work, self.mailer, write, self.clock)
        self.verify_action = VerifyEmail(work, self.clock)
        self.resend = ResendVerification(work, self.clock)
        self.forgot_action = RequestPasswordReset(
            work, LimitAsking("forgot", AskingLimit(8, HOUR), self.clock), self.clock
        )
        self.reset_action = ResetPassword(work, self.passwords, PlainRules(), self.clock)
        confirm = ConfirmPassword(work, self.passwords, LIMIT, self.clock)
        self.move_action = RequestEmailChange(work, confirm)

    async def letters(self) -> Sequence[Letter]:
        """What the worker sends now."""
        before = len(self.mailer.letters)
        await self.send.due()
        assert self.memory.mails == []
        return self.mailer.letters[before:]

    async def letter(self) -> Letter:
        [letter] = await self.letters()
        return letter

    async def verification_of(self, user: User) -> Letter:
        mail = Mail.with_proof(MailKind.VERIFY_EMAIL, user, self.clock.now())
        await self.memory.work().mails.add(mail)
        return await self.letter()

    async def verify(self, letter: Letter) -> None:
        await self.verify_action(ProofToken(token_in(letter.text)), BROWSER)

    async def forgot(self, email: str, origin: Origin = BROWSER) -> None:
        await self.forgot_action(email, origin)

    async def reset(self, letter: Letter, new: str = NEW) -> None:
        await self.reset_action(ProofToken(token_in(letter.text)), Password(new), BROWSER)

    async def move(self, user: User, email: str, password: str = PASSWORD) -> None:
        await self.move_action(user.id, email=email, password=Password(password), origin=BROWSER)

    async def add_factor(self, user: User) -> None:
        begun = await BeginTotp(self.memory.work, "Companion", self.clock)(user.id)
        code = code_at(begun.totp.secret, self.clock.now())
        confirm = ConfirmTotp(self.memory.work, LIMIT, self.clock)
        await confirm(user.id, code, keep=a_sign_in(user).id, origin=BROWSER)

    async def guard(self, user: User, how: str) -> None:
        """What an owner does who fears that somebody knows their password."""
        work, here = self.memory.work, a_sign_in(user).id
        if how == "change":
            confirm = ConfirmPassword(work, self.passwords, LIMIT, self.clock)
            await ChangePassword(work, confirm, PlainRules())(
                user.id, current=Password(PASSWORD), new=Password(NEW), keep=here, origin=BROWSER
            )
        elif how == "reset":
            proof = MailedProof.issued(
                ProofToken("x"), ProofPurpose.RESET_PASSWORD, user.id, user.email, self.clock.now()
            )
            await self.memory.work().mailed_proofs.add(proof)
            await self.reset_action(ProofToken("x"), Password(NEW), BROWSER)
        elif how == "add_factor":
            await self.add_factor(user)
        elif how == "remove_factor":
            await RemoveTotp(work, self.clock)(user.id, keep=here, origin=BROWSER)
        else:
            await ResetSecondFactor(work, self.clock)(user.username.text)

    @staticmethod
    def kept(letters: Sequence[Letter], kind: str) -> Letter:
        [letter] = [letter for letter in letters if letter.kind == kind]
        return letter

    def account(self, user: User) -> User:
        return self.memory.accounts[user.id]

    @property
    def audited(self) -> list[str]:
        return [entry.action for entry in self.memory.audited]


async def test_who_shows_the_token_has_proven_the_address() -> None:
    ada = a_user("ada")
    house = House(ada)
    letter = await house.verification_of(ada)
    assert letter.recipient == ada.email
    await house.verify(letter)
    assert house.account(ada).email_verified
    assert house.audited == ["email.verified"]


async def test_a_token_is_good_once() -> None:
    ada = a_user("ada")
    house = House(ada)
    letter = await house.verification_of(ada)
    await house.verify(letter)
    with pytest.raises(ProofRefused):
        await house.verify(letter)


async def test_a_newer_token_voids_the_older() -> None:
    ada = a_user("ada")
    house = House(ada)
    first, second = await house.verification_of(ada), await house.verification_of(ada)
    with pytest.raises(ProofRefused):
        await house.verify(first)
    await house.verify(second)


@pytest.mark.parametrize(("after", "good"), [(3 * DAY - HOUR, True), (3 * DAY, False)])
async def test_a_token_is_good_for_three_days(after: timedelta, good: bool) -> None:
    ada = a_user("ada")
    house = House(ada)
    letter = await house.verification_of(ada)
    house.clock.forward(after)
    if good:
        await house.verify(letter)
    else:
        with pytest.raises(ProofRefused):
            await house.verify(letter)
    assert house.account(ada).email_verified is good


@pytest.mark.parametrize("token", ["", "nonsense", "\0", "\ud800", "a" * 43])
async def test_an_invented_token_is_refused(token: str) -> None:
    house = House(a_user("ada"))
    with pytest.raises(ProofRefused):
        await house.verify_action(ProofToken(token), BROWSER)
    with pytest.raises(ProofRefused):
        await house.reset_action(ProofToken(token), Password(NEW), BROWSER)
    assert house.passwords.hashed == []


async def test_a_token_for_one_thing_is_no_good_for_another() -> None:
    ada = a_user("ada")
    house = House(ada)
    verification = await house.verification_of(ada)
    await house.forgot("ada@example.com")
    forgotten = await house.letter()
    with pytest.raises(ProofRefused):
        await house.reset(verification)
    with pytest.raises(ProofRefused):
        await house.verify(forgotten)
    await house.verify(verification)
    await house.reset(forgotten)


async def test_the_owner_of_an_address_hears_that_somebody_wanted_it_and_no_token() -> None:
    owner, stranger = a_user("ada", email_verified=True), a_user("eve")
    stranger = replace(stranger, email=owner.email)
    house = House(owner, stranger)
    letter = await house.verification_of(stranger)
    assert (letter.kind, letter.recipient) == ("account_exists", owner.email)
    assert "token" not in letter.text
    assert house.memory.proofs == {}


async def test_of_two_who_claim_an_address_the_first_to_prove_it_has_it() -> None:
    first, second = a_user("ada"), a_user("eve")
    second = replace(second, email=first.email)
    house = House(first, second)
    letters = [await house.verification_of(user) for user in (first, second)]
    await house.verify(letters[1])
    with pytest.raises(AddressTaken):
        await house.verify(letters[0])
    assert [house.account(user).email_verified for user in (first, second)] == [False, True]


async def test_a_verification_is_sent_again_once_a_minute() -> None:
    ada = a_user("ada")
    house = House(ada)
    for seconds, sent in ((0, 1), (30, 0), (31, 1)):
        house.clock.forward(timedelta(seconds=seconds))
        await house.resend(ada.id)
        assert len(await house.letters()) == sent
    await house.verify(house.mailer.letters[-1])
    house.clock.forward(HOUR)
    await house.resend(ada.id)
    assert house.memory.mails == []


async def test_a_forgotten_password_is_replaced_and_every_device_is_out() -> None:
    ada = a_user("ada")
    house = House(ada)
    devices = [a_sign_in(ada), a_sign_in(ada)]
    house.memory.keep(*devices)
    await house.forgot("ADA@example.com")
    await house.reset(await house.letter())
    assert house.account(ada).password.encoded.endswith(NEW)
    assert house.account(ada).email_verified
    assert house.memory.reasons == {d.id: EndReason.PASSWORD_CHANGED for d in devices}
    assert house.audited == ["password.reset_requested", "password.reset", "email.verified"]
    assert (await house.letter()).kind == "password_changed"


@pytest.mark.parametrize("email", ["nobody@example.com", "off@example.com"])
async def test_nobody_hears_of_an_account_that_is_not_there(email: str) -> None:
    house = House(a_user("ada"), a_user("off", is_active=False))
    await house.forgot(email)
    # As much was kept as for an account that is there.
    [mail], [entry] = house.memory.mails, house.memory.audited
    assert (mail.kind, entry.user_id) == (MailKind.RESET_PASSWORD, None)
    assert await house.letters() == []


async def test_a_reset_is_good_for_twenty_minutes() -> None:
    house = House(a_user("ada"))
    await house.forgot("ada@example.com")
    letter = await house.letter()
    house.clock.forward(timedelta(minutes=20))
    with pytest.raises(ProofRefused):
        await house.reset(letter)


async def test_a_refused_password_leaves_the_token_good() -> None:
    house = House(a_user("ada"))
    await house.forgot("ada@example.com")
    letter = await house.letter()
    with pytest.raises(PasswordRefused):
        await house.reset(letter, "short")
    await house.reset(letter)
    with pytest.raises(ProofRefused):
        await house.reset(letter)


async def test_a_reset_ends_the_wait_after_wrong_passwords() -> None:
    ada = a_user("ada")
    house = House(ada)
    sign_in = a_sign_in_action(house.memory.work, house.passwords, clock=house.clock)
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await sign_in(shown("ada", "a wrong password"))
    with pytest.raises(TooManyAttempts):
        await sign_in(shown("ada"))
    await house.forgot("ada@example.com")
    await house.reset(await house.letter())
    assert (await sign_in(shown("ada", NEW))).user.id == ada.id


@pytest.mark.parametrize(("verified", "left"), [(True, 1), (False, 0)])
async def test_personal_tokens_survive_unless_the_account_may_have_been_a_strangers(
    verified: bool, left: int
) -> None:
    ada = a_user("ada", email_verified=verified)
    house = House(ada)
    token, _ = a_personal_token(ada, at=NOON)
    house.memory.personal_tokens[token.id] = token
    await house.forgot("ada@example.com")
    await house.reset(await house.letter())
    assert await house.memory.work().personal_tokens.count_live(ada.id, NOON) == left
    assert (token.id in house.memory.ended) is not verified


async def test_an_address_gets_so_many_mails_an_hour_whoever_asks() -> None:
    house = House(a_user("ada"), most_per_hour=2)
    sent = []
    for number in range(4):
        await house.forgot("ada@example.com", Origin("a browser", f"192.0.2.{number}"))
        sent.append(len(await house.letters()))
    house.clock.forward(HOUR)
    await house.forgot("ada@example.com")
    sent.append(len(await house.letters()))
    assert sent == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(("most", "of_one_network"), [(5, 3), (2, 1), (1, 1)])
async def test_a_stranger_can_not_ask_for_all_the_mails_that_an_address_gets(
    most: int, of_one_network: int
) -> None:
    house = House(a_user("ada"), most_per_hour=most)
    stranger, owner = (Origin("a browser", f"198.51.100.{last}") for last in (1, 2))
    for _ in range(most + 2):
        await house.forgot("ada@example.com", stranger)
    assert len(await house.letters()) == of_one_network
    for _ in range(most):
        await house.forgot("ada@example.com", owner)
    assert len(await house.letters()) == most - of_one_network


async def test_an_address_hears_of_so_many_lost_seats_an_hour() -> None:
    house = House(ada := a_user("ada"), most_per_hour=2)
    for _ in range(4):
        facts = {"organisation": "Analytical", "reason": "removed"}
        mail = Mail.make(MailKind.SEAT_LOST, ada.email, house.clock.now(), **facts)
        await house.memory.work().mails.add(mail)
    assert len(await house.letters()) == 2


async def test_a_network_forgets_so_many_passwords_and_then_waits() -> None:
    house = House()
    for number in range(8):
        await house.forgot(f"n{number}@example.com")
    counted = dict(house.memory.failures)
    for _ in range(20):
        with pytest.raises(TooManyAttempts) as refused:
            await house.forgot("n9@example.com")
        assert refused.value.retry_after == HOUR
    assert len(house.memory.mails) == len(house.memory.audited) == 8
    assert house.memory.failures == counted, "a refusal writes nothing"
    await house.forgot("n9@example.com", Origin("a browser", "198.51.100.9"))
    house.clock.forward(HOUR)
    for number in range(8):
        await house.forgot(f"n{number}@example.com")
    with pytest.raises(TooManyAttempts):
        await house.forgot("n9@example.com")


async def test_an_account_moves_once_the_new_address_is_proven() -> None:
    ada = a_user("ada", email_verified=True)
    house = House(ada)
    await house.forgot("ada@example.com")
    to_the_old_one = await house.letter()
    await house.move(ada, "Countess@example.com")
    letter = house.kept(await house.letters(), "change_email")
    assert letter.recipient.text == "countess@example.com"
    assert house.account(ada).email == ada.email
    await house.verify(letter)
    assert house.account(ada).email.text == "countess@example.com"
    notice = await house.letter()
    assert (notice.kind, notice.recipient) == ("email_changed", ada.email)
    # Whoever reads the old address can't come back with what was sent there.
    with pytest.raises(ProofRefused):
        await house.reset(to_the_old_one)
    assert house.audited[1:] == ["email.change_requested", "email.changed"]


async def test_moving_to_an_address_that_somebody_has_looks_the_same_and_tells_its_owner() -> None:
    ada, grace = a_user("ada", email_verified=True), a_user("grace", email_verified=True)
    house = House(ada, grace)
    await house.move(ada, "grace@example.com")
    letter = house.kept(await house.letters(), "account_exists")
    assert letter.recipient == grace.email


async def test_the_old_address_hears_that_another_is_asked_for() -> None:
    ada = a_user("ada", email_verified=True)
    house = House(ada)
    await house.move(ada, "eve@example.com")
    proof, notice = await house.letters()
    assert (proof.kind, proof.recipient.text) == ("change_email", "eve@example.com")
    assert (notice.kind, notice.recipient) == ("email_change_asked", ada.email)
    assert "192.0.2.7" in notice.text
    assert token_in(proof.text) not in notice.text


async def test_an_address_that_was_never_proven_hears_nothing() -> None:
    ada = a_user("ada")
    house = House(ada)
    await house.move(ada, "ada.l@example.com")
    assert (await house.letter()).kind == "change_email"


@pytest.mark.parametrize("is_sent_before", [True, False])
@pytest.mark.parametrize("guard", ["change", "reset", "add_factor", "remove_factor", "console"])
async def test_what_a_thief_asked_for_ends_with_what_the_owner_does(
    guard: str, is_sent_before: bool
) -> None:
    ada = a_user("ada", email_verified=True)
    house = House(ada)
    if guard in ("remove_factor", "console"):
        await house.add_factor(ada)
    await house.move(ada, "eve@example.com")
    proofs = [house.kept(await house.letters(), "change_email")] if is_sent_before else []
    house.clock.forward(HOUR)
    await house.guard(ada, guard)
    late = [letter for letter in await house.letters() if letter.kind == "change_email"]
    assert late == []
    for letter in proofs:
        with pytest.raises(ProofRefused):
            await house.verify(letter)
    assert house.account(ada).email == ada.email


async def test_moving_with_a_second_factor_that_stays_is_sent() -> None:
    ada = a_user("ada", email_verified=True)
    house = House(ada)
    await house.add_factor(ada)
    await house.move(ada, "countess@example.com")
    house.clock.forward(HOUR)
    await house.verify(house.kept(await house.letters(), "change_email"))
    assert house.account(ada).email.text == "countess@example.com"


async def test_a_right_password_is_not_told_to_who_guesses_too_often() -> None:
    ada = a_user("ada")
    house = House(ada)
    subject = failures_at_password_change(ada.id)

    async def others_guess() -> None:
        async with house.memory.work() as work:
            for _ in range(5):
                await count_failure(work, subject, LIMIT, house.clock)

    house.passwords.meanwhile = others_guess
    with pytest.raises(TooManyAttempts):
        await house.move(ada, "new@example.com")
    assert house.memory.mails == []


async def test_of_a_move_and_a_new_password_at_once_the_move_fails() -> None:
    ada = a_user("ada")
    house = House(ada)

    async def it_changes() -> None:
        house.memory.keep(ada.with_password(hash_of(NEW), house.clock.now() + HOUR))

    house.passwords.meanwhile = it_changes
    with pytest.raises(WrongPassword):
        await house.move(ada, "new@example.com")
    assert house.memory.mails == []


async def test_a_move_that_succeeds_forgets_the_wrong_passwords_before() -> None:
    ada = a_user("ada")
    house = House(ada)
    for _ in range(4):
        with pytest.raises(WrongPassword):
            await house.move(ada, "new@example.com", "a wrong password")
    await house.move(ada, "new@example.com")
    assert failures_at_password_change(ada.id) not in house.memory.failures


async def test_the_owner_of_an_address_gets_in_past_the_factor_of_whoever_opened_the_account() -> (
    None
):
    ada = a_user("ada")
    house = House(ada)
    await house.add_factor(ada)
    await house.move(ada, "eve@example.com")
    moved = house.kept(await house.letters(), "change_email")
    await house.forgot("ada@example.com")
    await house.reset(await house.letter())
    assert house.memory.authenticators == house.memory.recovery_codes == {}
    with pytest.raises(ProofRefused):
        await house.verify(moved)


async def test_a_reset_leaves_the_factor_of_a_proven_account() -> None:
    ada = a_user("ada", email_verified=True)
    house = House(ada)
    await house.add_factor(ada)
    await house.forgot("ada@example.com")
    await house.reset(house.kept(await house.letters(), "reset_password"))
    assert house.memory.authenticators.keys() == {ada.id}


async def test_moving_needs_the_password_and_wrong_ones_count() -> None:
    ada = a_user("ada")
    house = House(ada)
    for _ in range(5):
        with pytest.raises(WrongPassword):
            await house.move(ada, "new@example.com", "a wrong password")
    with pytest.raises(TooManyAttempts):
        await house.move(ada, "new@example.com")
    assert house.memory.mails == []


async def test_where_it_is_needed_an_unproven_address_looks_like_a_wrong_password() -> None:
    ada, grace = a_user("ada"), a_user("grace", email_verified=True)
    house = House(ada, grace)
    sign_in = a_sign_in_action(house.memory.work, house.passwords, clock=house.clock)
    strict = replace(sign_in, prove=replace(sign_in.prove, only_verified=True))
    assert (await strict(shown("grace"))).user.id == grace.id
    for minutes, sent in ((0, 1), (30, 0), (31, 1)):
        house.clock.forward(timedelta(minutes=minutes))
        with pytest.raises(WrongCredentials):
            await strict(shown("ada"))
        assert len(await house.letters()) == sent
    with pytest.raises(WrongCredentials):
        await strict(shown("ada", "a wrong password"))
    assert house.memory.devices.keys() == {d.id for d in house.memory.devices.values()}
    assert {d.user_id for d in house.memory.devices.values()} == {grace.id}
    await house.verify(house.mailer.letters[-1])
    assert (await strict(shown("ada"))).user.id == ada.id


async def test_a_right_password_of_an_unproven_account_counts_like_a_wrong_one() -> None:
    house = House(a_user("ada"))
    sign_in = a_sign_in_action(house.memory.work, house.passwords, clock=house.clock)
    strict = replace(sign_in, prove=replace(sign_in.prove, only_verified=True))
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await strict(shown("ada"))
    with pytest.raises(TooManyAttempts):
        await strict(shown("ada"))


@pytest.mark.parametrize("has_an_owner", [True, False])
async def test_where_it_is_needed_who_claims_an_address_learns_nothing_of_its_owner(
    has_an_owner: bool,
) -> None:
    eve = a_user("eve", email=EmailAddress.parse("ada@example.com"))
    owners = [a_user("ada", password=NEW, email_verified=True)] if has_an_owner else []
    house = House(eve, *owners)
    sign_in = a_sign_in_action(house.memory.work, house.passwords, clock=house.clock)
    strict = replace(sign_in, prove=replace(sign_in.prove, only_verified=True))
    for password in (PASSWORD, *["a wrong password"] * 4):
        with pytest.raises(WrongCredentials):
            await strict(shown("ada@example.com", password))
    with pytest.raises(TooManyAttempts):
        await strict(shown("ada@example.com"))
    # Her own account waits in neither case.
    with pytest.raises(WrongCredentials):
        await strict(shown("eve"))


async def test_accounts_that_nobody_proved_or_used_are_forgotten_after_a_week() -> None:
    unused, proven, used = (
        a_user("unused"),
        a_user("proven", email_verified=True),
        a_user("used", last_signed_in_at=NOON),
    )
    house = House(unused, proven, used)
    await house.verification_of(unused)
    for days, left in ((7, {unused.id, proven.id, used.id}), (1, {proven.id, used.id})):
        house.clock.forward(days * DAY)
        await ForgetExpired(house.memory.work, house.clock)()
        assert house.memory.accounts.keys() == left
    # Billing and others have heard of it when it was opened.
    [fact], [erasure] = house.memory.published, house.memory.erasures.values()
    assert fact.event == UserDeleted(user_id=unused.id, erasure_id=erasure.id)
    assert (fact.subject, erasure.user_id) == (unused.id, unused.id)
    assert house.memory.proofs == {}


async def test_of_many_forgotten_accounts_each_is_told() -> None:
    house = House(*(a_user(f"u{number}") for number in range(401)))
    house.clock.forward(8 * DAY)
    await ForgetExpired(house.memory.work, house.clock)()
    assert house.memory.accounts == {}
    assert len({fact.subject for fact in house.memory.published}) == 401
