"""Invitations: bound to an address, good once, and for a seat that is free."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.auth.actions.accept_invitation import AcceptInvitation
from services.auth.actions.invite_member import InviteMember
from services.auth.actions.list_invitations import ListInvitations
from services.auth.actions.send_mails import SendMails
from services.auth.actions.withdraw_invitation import WithdrawInvitation
from services.auth.actions.write_letter import WriteLetter
from services.auth.domain.errors import (
    AlreadyAMember,
    EmailNotVerified,
    InAnOrganisation,
    InvitationForAnotherAddress,
    InvitationNotFound,
    InvitedTooMany,
    InvitedTooOften,
    NoSeatLeft,
    OrganisationNotFound,
    OrganisationRoleRequired,
    TooManyInvitations,
)
from services.auth.domain.mail import MailKind
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    INVITATION_LASTS,
    INVITATIONS_OF_ONE_MEMBER,
    MOST_OPEN_INVITATIONS,
    Entered,
    Invitation,
    InvitationToken,
)
from services.auth.domain.origin import NOWHERE
from services.auth.domain.user import User
from shared.events.seat import SeatAssigned
from tests.support.auth import NOON, Memory, StoppedClock, a_user
from tests.support.auth_mails import KeptLetters
from tests.support.auth_organisations import a_member, an_organisation

OWNER, ADMIN = OrganisationRole.OWNER, OrganisationRole.ADMIN
BILLING, MEMBER = OrganisationRole.BILLING, OrganisationRole.MEMBER
FIRM = an_organisation(NOON, tier="enterprise", seats=2)
OTHER = an_organisation(NOON)
ada = a_member(a_user("ada", email_verified=True), FIRM, "owner", since=NOON)
anne = a_member(a_user("anne", email_verified=True), FIRM, "admin", since=NOON, seated=False)
ben = a_member(a_user("ben"), FIRM, "billing", since=NOON, seated=False)
olga = a_member(a_user("olga", email_verified=True), OTHER, "owner", since=NOON)
mel = a_user("mel", email_verified=True)


class StepUp(Exception):
    """What the door raises when a proof is too old."""


async def proven() -> None:
    """A fresh proof."""


async def stale() -> None:
    raise StepUp


class Post:
    """The organisation's door for invitations, and a look into the mails."""

    def __init__(self, *users: User) -> None:
        self.memory = Memory().keep(*(users or (ada, anne, ben, olga, mel)))
        self.memory.organisations |= {FIRM.id: FIRM, OTHER.id: OTHER}
        self.clock = StoppedClock()

    async def invite(
        self,
        email: str = "mel@example.com",
        role: OrganisationRole = MEMBER,
        *,
        by: User = ada,
        proof: Any = proven,
    ) -> Invitation:
        action = InviteMember(self.memory.work, self.clock)
        return await action(FIRM.id, email, role, by=by.id, origin=NOWHERE, proof=proof)

    async def accept(self, user: User = mel, token: str | None = None) -> Entered:
        action = AcceptInvitation(self.memory.work, self.clock)
        shown = InvitationToken(token if token is not None else self.newest_token)
        return await action(shown, by=user.id, origin=NOWHERE)

    async def open(self, by: User = ada) -> list[str]:
        action = ListInvitations(self.memory.work, self.clock)
        return [i.email.text for i in await action(FIRM.id, by=by.id, before=None, most=1000)]

    @property
    def newest_token(self) -> str:
        return self.memory.mails[-1].facts["token"]


async def test_the_token_is_in_the_mail_alone() -> None:
    post = Post()
    made = await post.invite("Mel@Example.com", ADMIN)
    [mail] = post.memory.mails
    assert (mail.kind, mail.recipient.text) == (MailKind.INVITATION, "mel@example.com")
    assert {name: value for name, value in mail.facts.items() if name != "token"} == {
        "organisation": "Lovelace & Sons",
        "inviter": "ada",
        "role": "admin",
    }
    assert made.token_hash == InvitationToken(mail.facts["token"]).hash
    [entry] = post.memory.audited
    assert entry.facts == {"invitation_id": str(made.id), "role": "admin"}
    assert "example" not in str(entry) and mail.facts["token"] not in str(entry)


async def test_whoever_was_invited_joins_with_a_seat_and_the_tier() -> None:
    post = Post()
    await post.invite(role=BILLING)
    entered = await post.accept()
    assert (entered.organisation.id, entered.actor.role) == (FIRM.id, BILLING)
    assert post.memory.accounts[mel.id].effective_tier == "enterprise"
    assert post.memory.retiered == [mel.id]
    [fact] = post.memory.published
    assert fact.event == SeatAssigned(organisation_id=FIRM.id, user_id=mel.id)
    assert await post.open() == []
    with pytest.raises(InvitationNotFound):
        await post.accept(olga)


async def test_a_forwarded_mail_lets_nobody_in() -> None:
    post = Post(ada, replace(mel, email_verified=False), a_user("eve", email_verified=True))
    await post.invite()
    eve = next(u for u in post.memory.accounts.values() if u.username.text == "eve")
    with pytest.raises(InvitationForAnotherAddress):
        await post.accept(eve)
    with pytest.raises(EmailNotVerified):
        await post.accept(mel)
    assert await post.open() == ["mel@example.com"]


async def test_without_a_free_seat_the_invitation_stays_good() -> None:
    post = Post()
    post.memory.organisations[FIRM.id] = replace(FIRM, seats=1)
    await post.invite()
    with pytest.raises(NoSeatLeft):
        await post.accept()
    post.memory.organisations[FIRM.id] = FIRM
    assert (await post.accept()).actor.is_seated


async def test_who_has_an_organisation_leaves_it_first() -> None:
    post = Post()
    await post.invite("olga@example.com")
    with pytest.raises(InAnOrganisation):
        await post.accept(olga)
    assert await post.open() == ["olga@example.com"]


async def test_an_invitation_ends_after_three_days() -> None:
    post = Post()
    await post.invite()
    post.clock.forward(INVITATION_LASTS)
    assert await post.open() == []
    with pytest.raises(InvitationNotFound):
        await post.accept()


async def test_inviting_again_replaces_the_invitation() -> None:
    post = Post()
    await post.invite(role=ADMIN)
    first = post.newest_token
    await post.invite(role=MEMBER)
    assert await post.open() == ["mel@example.com"]
    with pytest.raises(InvitationNotFound):
        await post.accept(token=first)
    assert (await post.accept()).actor.role is MEMBER


async def test_a_strangers_mailbox_is_not_filled() -> None:
    post = Post()
    for _ in range(3):
        await post.invite()
        post.clock.forward(timedelta(hours=1))
    with pytest.raises(InvitedTooOften) as refusal:
        await post.invite("MEL@example.com")
    assert refusal.value.retry_after == timedelta(hours=21)
    await post.invite("somebody.else@example.com")
    post.clock.forward(timedelta(hours=21))
    await post.invite()


async def test_a_withdrawn_invitation_is_worth_nothing() -> None:
    post = Post()
    made = await post.invite()
    withdraw = WithdrawInvitation(post.memory.work, post.clock)
    with pytest.raises(OrganisationNotFound):
        await withdraw(FIRM.id, made.id, by=olga.id, origin=NOWHERE)
    with pytest.raises(InvitationNotFound):
        await withdraw(OTHER.id, made.id, by=olga.id, origin=NOWHERE)
    await withdraw(FIRM.id, made.id, by=anne.id, origin=NOWHERE)
    for refused in (post.accept(), withdraw(FIRM.id, made.id, by=ada.id, origin=NOWHERE)):
        with pytest.raises(InvitationNotFound):
            await refused


async def test_who_may_invite_as_what() -> None:
    post = Post()
    await post.invite("a@example.com", ADMIN, by=anne)
    await post.invite("b@example.com", OWNER, by=ada)
    for by, role in ((anne, OWNER), (ben, MEMBER)):
        with pytest.raises(OrganisationRoleRequired):
            await post.invite(role=role, by=by)
    with pytest.raises(OrganisationNotFound):
        await post.invite(by=olga)
    with pytest.raises(OrganisationRoleRequired):
        await post.open(by=ben)
    with pytest.raises(StepUp):
        await post.invite("c@example.com", OWNER, proof=stale)
    await post.invite("c@example.com", ADMIN, proof=stale)


async def test_whoever_invites_has_proven_their_own_address() -> None:
    eve = a_member(a_user("eve"), FIRM, "owner", since=NOON)
    post = Post(eve)
    with pytest.raises(EmailNotVerified):
        await post.invite(by=eve)
    assert (post.memory.mails, post.memory.failures) == ([], {})


async def test_a_member_invites_so_many_a_day_wherever() -> None:
    post = Post()
    for number in range(INVITATIONS_OF_ONE_MEMBER):
        await post.invite(f"guest{number}@example.com")
    with pytest.raises(InvitedTooMany) as refusal:
        await post.invite()
    assert refusal.value.retry_after == timedelta(days=1)
    assert len(post.memory.mails) == INVITATIONS_OF_ONE_MEMBER
    await post.invite(by=anne)
    post.clock.forward(timedelta(days=1))
    await post.invite()


async def test_an_address_gets_so_many_invitations_an_hour_from_all_organisations() -> None:
    post, mailer = Post(), KeptLetters()
    write = WriteLetter("https://companion.example.com", 2, post.clock)
    send = SendMails(post.memory.work, mailer, write, post.clock)
    for organisation in (FIRM, OTHER):
        for _ in range(2):
            action = InviteMember(post.memory.work, post.clock)
            by = (ada if organisation is FIRM else olga).id
            await action(
                organisation.id,
                "mel@example.com",
                MEMBER,
                by=by,
                origin=NOWHERE,
                proof=proven,
            )
    await send.due()
    assert [letter.kind for letter in mailer.letters] == ["invitation"] * 2


async def test_members_are_not_invited_again() -> None:
    with pytest.raises(AlreadyAMember):
        await Post().invite("ada@example.com")


async def test_there_is_an_end_to_open_invitations() -> None:
    post = Post()
    made = await post.invite("first@example.com")
    for number in range(MOST_OPEN_INVITATIONS - 1):
        copy = replace(made, id=a_user().id, email=a_user(f"u{number}").email)  # type: ignore[arg-type]
        post.memory.invitations[copy.id] = replace(copy, token_hash=copy.id.bytes)
    with pytest.raises(TooManyInvitations):
        await post.invite()
    # Replacing one makes no more of them.
    await post.invite("first@example.com")
