"""What is done on accounts from the console: locking them, and saying who is staff."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from services.auth.actions.assign_role import AssignRole
from services.auth.actions.disable_account import DisableAccount, EnableAccount
from services.auth.actions.reset_second_factor import ResetSecondFactor
from services.auth.domain.errors import (
    AccountInactive,
    AddressClaimed,
    AddressUnproven,
    NoSuchAccount,
    TotpNotActive,
)
from services.auth.domain.mail import MailKind
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose, ProofToken
from services.auth.domain.personal_token import PersonalTokenId
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import EmailAddress, Role, User
from shared.scopes import USAGE_WRITE
from tests.support.auth import (
    NOON,
    Memory,
    StoppedClock,
    a_sign_in,
    a_sign_in_action,
    a_user,
    shown,
)
from tests.support.auth_personal_tokens import a_personal_token

Act = Callable[[str], Awaitable[None]]


class Console:
    """Two accounts, one of which is dealt with."""

    def __init__(self, user: User) -> None:
        self.user, other = user, a_user("grace", email_verified=True)
        self.device, self.elsewhere = a_sign_in(user), a_sign_in(other)
        self.memory = Memory().keep(user, other, self.device, self.elsewhere)
        self.clock = StoppedClock(NOON + timedelta(hours=1))
        work, clock = self.memory.work, self.clock
        self.disable, self.enable = DisableAccount(work, clock), EnableAccount(work, clock)
        self.assign = AssignRole(work, clock)
        self.sign_in = a_sign_in_action(work, clock=clock)

    def token(self, *scopes: str) -> PersonalTokenId:
        token, _ = a_personal_token(self.user, at=NOON, scopes=scopes)
        self.memory.personal_tokens[token.id] = token
        return token.id

    @property
    def kept(self) -> User:
        return self.memory.accounts[self.user.id]

    @property
    def noted(self) -> list[str]:
        return [entry.action for entry in self.memory.audited]


@pytest.mark.parametrize("login", ["ada", "ADA@example.com"])
async def test_a_locked_account_lets_nobody_in_until_it_is_unlocked(login: str) -> None:
    console = Console(a_user("ada", email_verified=True))
    token = console.token("chat")
    await console.disable(login)
    assert console.memory.reasons == {console.device.id: EndReason.ACCOUNT_DISABLED}
    assert console.memory.ended.keys() == {console.device.id, token}
    with pytest.raises(AccountInactive):
        await console.sign_in(shown("ada"))
    await console.enable(login)
    assert (await console.sign_in(shown("ada"))).user.id == console.user.id
    assert console.noted[:2] == ["account.disabled", "account.enabled"]
    assert [(mail.kind, mail.recipient) for mail in console.memory.mails] == [
        (MailKind.ACCOUNT_DISABLED, console.user.email),
        (MailKind.ACCOUNT_ENABLED, console.user.email),
    ]
    # Who acts on the console is nobody that the trail knows.
    assert {entry.actor_id for entry in console.memory.audited[:2]} == {None}


async def test_what_an_unlocked_account_lets_in_again_does_not_pass_for_ended() -> None:
    console = Console(a_user("ada"))
    token, revoked = console.token("chat"), console.token("voice")
    await console.disable("ada")
    assert console.memory.ended.keys() == {console.device.id, token, revoked}
    await console.memory.work().personal_tokens.revoke(revoked, console.clock.now())
    await console.enable("ada")
    # What was signed in stays out, and so does what was revoked meanwhile.
    assert console.memory.ended.keys() == {console.device.id, revoked}


async def test_a_role_that_comes_back_brings_its_tokens_back() -> None:
    console = Console(a_user("ada", role=Role.BILLING, email_verified=True))
    told = console.token("chat", "usage:write")
    await console.assign("ada", Role.MEMBER)
    assert told in console.memory.ended
    await console.assign("ada", Role.BILLING)
    assert told not in console.memory.ended


async def test_a_lock_voids_what_is_on_its_way_by_mail() -> None:
    console = Console(a_user("ada"))
    token = ProofToken.new()
    proof = MailedProof.issued(
        token, ProofPurpose.RESET_PASSWORD, console.user.id, console.user.email, NOON
    )
    await console.memory.work().mailed_proofs.add(proof)
    await console.disable("ada")
    assert console.memory.used_proofs == {token.hash}
    assert console.memory.mails == [], "an address that was never proven may be a stranger's"


@pytest.mark.parametrize(
    ("before", "after"), [(Role.OPERATOR, Role.MEMBER), (Role.MEMBER, Role.BILLING)]
)
async def test_a_role_is_given_and_taken_at_once(before: Role, after: Role) -> None:
    console = Console(a_user("ada", role=before, email_verified=True))
    await console.assign("ada", after)
    assert console.kept.role is after
    assert console.memory.reasons == {console.device.id: EndReason.ROLE_CHANGED}
    [entry], [mail] = console.memory.audited, console.memory.mails
    assert (entry.action, dict(entry.facts)) == (
        "role.assigned",
        {"role": after.value, "before": before.value},
    )
    assert mail.kind is MailKind.ROLE_CHANGED


async def test_with_the_role_go_the_tokens_that_need_it() -> None:
    console = Console(a_user("ada", role=Role.BILLING))
    of_staff, of_anybody = console.token(USAGE_WRITE), console.token("chat")
    await console.assign("ada", Role.MEMBER)
    assert of_staff in console.memory.ended
    assert of_anybody not in console.memory.ended


async def test_nobody_is_nobody() -> None:
    console = Console(a_user("ada"))

    async def as_operator(login: str) -> None:
        await console.assign(login, Role.OPERATOR)

    acts: list[Act] = [console.disable, console.enable, as_operator]
    for act in acts:
        with pytest.raises(NoSuchAccount):
            await act("nobody")
    assert console.noted == []


ADDRESS = EmailAddress.parse("ada@example.com")


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.BILLING])
@pytest.mark.parametrize("login", ["ada", "ada@example.com"])
async def test_nobody_becomes_staff_whose_address_is_not_proven(login: str, role: Role) -> None:
    console = Console(a_user("ada"))
    with pytest.raises(AddressUnproven):
        await console.assign(login, role)
    assert (console.kept.role, console.memory.reasons, console.noted) == (Role.MEMBER, {}, [])


async def test_a_later_claim_to_the_address_of_staff_gets_no_role() -> None:
    console = Console(a_user("ada", email_verified=True))
    squatter = a_user("mallory", email=ADDRESS)
    console.memory.keep(squatter)
    await console.assign("ada@example.com", Role.OPERATOR)
    assert console.kept.role is Role.OPERATOR
    assert console.memory.accounts[squatter.id].role is Role.MEMBER


async def test_an_address_that_several_claim_is_nobodys_until_one_is_named() -> None:
    console = Console(a_user("ada"))
    squatter = a_user("mallory", email=ADDRESS)
    console.memory.keep(squatter)
    reset = ResetSecondFactor(console.memory.work, console.clock)

    async def as_operator(login: str) -> None:
        await console.assign(login, Role.OPERATOR)

    acts: list[Act] = [console.disable, console.enable, as_operator, reset]
    for act in acts:
        with pytest.raises(AddressClaimed) as refused:
            await act("ada@example.com")
        assert "'mallory', 'ada'" in refused.value.message
    assert console.noted == []
    await console.disable("ada")
    assert not console.kept.is_active
    assert console.memory.accounts[squatter.id].is_active


async def test_an_address_that_one_account_claims_names_it() -> None:
    console = Console(a_user("ada"))
    await console.disable("ada@example.com")
    assert not console.kept.is_active
    with pytest.raises(TotpNotActive):
        await ResetSecondFactor(console.memory.work, console.clock)("ada@example.com")
