"""Remove a member, or leave."""

from __future__ import annotations

from datetime import datetime

from services.auth.actions._assign_seats import mail_lost_seats, tell_released
from services.auth.actions._enter_organisation import enter
from services.auth.actions.change_member import ensure_another_owner
from services.auth.actions.delete_organisation import dissolve
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import MemberNotFound
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import Act, FreshProof, Member, Organisation, OrganisationId
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.user import User
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """End a membership. Everybody may end their own, unless nobody would own the rest."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        organisation_id: OrganisationId,
        user_id: UserId,
        *,
        by: UserId,
        origin: Origin,
        proof: FreshProof,
    ) -> None:
        """Raises OrganisationNotFound, MemberNotFound, OrganisationRoleRequired, LastOwner, or
        what `proof` raises where an owner goes."""
        async with self.unit_of_work() as work:
            entered = await enter(work, organisation_id, by)
            if user_id != by:
                entered.actor.require(Act.REMOVE)
            member = await work.members.get(organisation_id, user_id)
            if member is None:
                raise MemberNotFound(user_id)
            if user_id != by:
                entered.actor.require_rule_over(member.role)
            if member.is_owner:
                await proof()
                await ensure_another_owner(work, member)
            await _end(work, entered.organisation, member, self.clock.now(), by=by, origin=origin)


async def refuse_last_owner(work: UnitOfWork, user: User) -> None:
    """Raises LastOwner where `leave_for_good` would, as things are now."""
    if user.membership is None:
        return
    organisation_id = OrganisationId(user.membership.organisation_id)
    member = await work.members.get(organisation_id, user.id)
    if member is None or not member.is_owner:
        return
    if (await work.members.headcount(organisation_id)).members > 1:
        await ensure_another_owner(work, member)


async def leave_for_good(work: UnitOfWork, user: User, at: datetime, origin: Origin) -> None:
    """Take a user who is to be deleted out of their organisation; if they are alone, it goes too.

    Before the user's own row is touched: whoever changes members holds the organisation first.
    Raises LastOwner when nobody would own the others.
    """
    if user.membership is None:
        return
    organisation_id = OrganisationId(user.membership.organisation_id)
    organisation = await work.organisations.hold(organisation_id)
    member = await work.members.get(organisation_id, user.id)
    if organisation is None or member is None:
        return
    if (await work.members.headcount(organisation_id)).members == 1:
        await dissolve(work, organisation, at, by=user.id, origin=origin)
        return
    if member.is_owner:
        await ensure_another_owner(work, member)
    await _end(work, organisation, member, at, by=user.id, origin=origin)


async def _end(
    work: UnitOfWork,
    organisation: Organisation,
    member: Member,
    at: datetime,
    *,
    by: UserId,
    origin: Origin,
) -> None:
    await work.members.remove(member)
    await work.invitations.withdraw_by(
        organisation.id, member.user_id, at, roles=frozenset(OrganisationRole)
    )
    await tell_released(work, organisation, [member] if member.is_seated else [])
    if member.is_seated and member.user_id != by:
        await mail_lost_seats(work, organisation, [member], at, reason="removed")
    await work.audit.note(
        AuditEntry.in_organisation(
            "member.left" if member.user_id == by else "member.removed",
            organisation.id,
            at,
            origin,
            by=by,
            user_id=member.user_id,
            role=member.role.value,
        )
    )
