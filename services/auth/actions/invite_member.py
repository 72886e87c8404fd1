"""Invite somebody into an organisation."""

from __future__ import annotations

from datetime import datetime

from services.auth.actions._enter_organisation import enter
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import (
    AlreadyAMember,
    EmailNotVerified,
    InvitedTooMany,
    InvitedTooOften,
    TooManyInvitations,
)
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    INVITATIONS_COUNTED_FOR,
    INVITATIONS_OF_ONE_MEMBER,
    INVITATIONS_TO_ONE_ADDRESS,
    MOST_OPEN_INVITATIONS,
    Act,
    Entered,
    FreshProof,
    Invitation,
    InvitationToken,
    OrganisationId,
)
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.user import EmailAddress
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class InviteMember:
    """Send an offer to an address; an earlier one to the same address is no good any more."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        organisation_id: OrganisationId,
        email: str,
        role: OrganisationRole,
        *,
        by: UserId,
        origin: Origin,
        proof: FreshProof,
    ) -> Invitation:
        """Raises InvalidEmail, OrganisationNotFound, OrganisationRoleRequired, EmailNotVerified,
        AlreadyAMember, TooManyInvitations, InvitedTooOften, InvitedTooMany, or what `proof` raises
        for a future owner."""
        address, now = EmailAddress.parse(email), self.clock.now()
        async with self.unit_of_work() as work:
            entered = await enter(work, organisation_id, by)
            entered.actor.require(Act.INVITE)
            entered.actor.require_rule_over(role)
            await _refuse_unproven(work, by)
            if role is OrganisationRole.OWNER:
                await proof()
            await _make_room(work, organisation_id, address, now)
            await _count(work, by, now)
            token = InvitationToken.fresh()
            invitation = Invitation.to(address, role, token, by=entered.actor, at=now)
            await work.invitations.add(invitation)
            await work.mails.add(_mail(entered, invitation, token))
            await work.audit.note(
                AuditEntry.in_organisation(
                    "invitation.sent",
                    organisation_id,
                    now,
                    origin,
                    by=by,
                    invitation_id=str(invitation.id),
                    role=role.value,
                )
            )
        return invitation


async def _refuse_unproven(work: UnitOfWork, by: UserId) -> None:
    """Our mails to strangers, with words of the sender's own choice, have a sender who is known."""
    user = await work.users.get(by)
    if user is None or not user.email_verified:
        raise EmailNotVerified


async def _count(work: UnitOfWork, by: UserId, now: datetime) -> None:
    """Across organisations: a new one is made quickly."""
    sent = await work.login_failures.add(
        f"invitations:{by}", now, window_ends_at=now + INVITATIONS_COUNTED_FOR
    )
    if sent.count > INVITATIONS_OF_ONE_MEMBER:
        raise InvitedTooMany(sent.window_ends_at - now)


async def _make_room(
    work: UnitOfWork, organisation_id: OrganisationId, address: EmailAddress, now: datetime
) -> None:
    if await work.members.has_address(organisation_id, address):
        raise AlreadyAMember
    since = now - INVITATIONS_COUNTED_FOR
    sent = await work.invitations.sent_since(organisation_id, address, since)
    if len(sent) >= INVITATIONS_TO_ONE_ADDRESS:
        raise InvitedTooOften(sent[-INVITATIONS_TO_ONE_ADDRESS] - since)
    await work.invitations.withdraw_to(organisation_id, address, now)
    if await work.invitations.count_open(organisation_id, now) >= MOST_OPEN_INVITATIONS:
        raise TooManyInvitations(MOST_OPEN_INVITATIONS)


def _mail(entered: Entered, invitation: Invitation, token: InvitationToken) -> Mail:
    return Mail.make(
        MailKind.INVITATION,
        invitation.email,
        invitation.created_at,
        organisation=entered.organisation.name.text,
        inviter=entered.actor.username.text,
        role=invitation.role.value,
        token=token.text,
    )
