"""Join an organisation by an invitation."""

from __future__ import annotations

from datetime import datetime

from services.auth.actions._assign_seats import require_free_seat, tell_assigned
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import (
    AccountGone,
    EmailNotVerified,
    InAnOrganisation,
    InvitationForAnotherAddress,
    InvitationNotFound,
)
from services.auth.domain.organisation import (
    Entered,
    Invitation,
    InvitationToken,
    Member,
    Organisation,
)
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.user import User
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AcceptInvitation:
    """Become a member and take a seat; without a free one the invitation stays good.

    The link alone is not enough: mails are forwarded, so it is for the person whose address it was
    sent to.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, token: InvitationToken, *, by: UserId, origin: Origin) -> Entered:
        """Raises InvitationNotFound, InvitationForAnotherAddress, EmailNotVerified,
        InAnOrganisation, NoSeatLeft or AccountGone."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            organisation, invitation = await _held(work, token, now)
            user = await work.users.get(by)
            _check(user, invitation)
            assert user is not None
            await require_free_seat(work, organisation)
            member = Member.joining(organisation.id, user, invitation.role, now).seated(now)
            await work.members.add(member)
            await work.invitations.save(invitation.accepted(now, by=by))
            await tell_assigned(work, organisation, [member])
            await work.audit.note(
                AuditEntry.in_organisation(
                    "invitation.accepted",
                    organisation.id,
                    now,
                    origin,
                    by=by,
                    user_id=by,
                    invitation_id=str(invitation.id),
                    role=invitation.role.value,
                )
            )
        return Entered(organisation, member)


async def _held(
    work: UnitOfWork, token: InvitationToken, now: datetime
) -> tuple[Organisation, Invitation]:
    shown = await work.invitations.shown(token)
    if shown is None:
        raise InvitationNotFound
    organisation = await work.organisations.hold(shown.organisation_id)
    # Read again under the lock: it may have been used or withdrawn while we waited.
    invitation = await work.invitations.shown(token)
    if organisation is None or invitation is None or not invitation.is_open(now):
        raise InvitationNotFound
    return organisation, invitation


def _check(user: User | None, invitation: Invitation) -> None:
    if user is None:
        raise AccountGone
    if user.email != invitation.email:
        raise InvitationForAnotherAddress
    if not user.email_verified:
        raise EmailNotVerified
    if user.membership is not None:
        raise InAnOrganisation
