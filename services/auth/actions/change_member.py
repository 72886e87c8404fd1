"""Give a member another role, or give or take their seat."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.auth.actions._assign_seats import assign_seat, mail_lost_seats, release_seats
from services.auth.actions._enter_organisation import enter
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import LastOwner, MemberNotFound
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    RULES,
    Act,
    Entered,
    FreshProof,
    Member,
    OrganisationId,
)
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

_SAT_BRIEFLY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MemberChange:
    """What is to be different; None leaves it as it is."""

    role: OrganisationRole | None = None
    seated: bool | None = None


@dataclass(frozen=True, slots=True)
class ChangeMember:
    """Change what a member is; the next access token says so."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        organisation_id: OrganisationId,
        user_id: UserId,
        change: MemberChange,
        *,
        by: UserId,
        origin: Origin,
        proof: FreshProof,
    ) -> Member:
        """Raises OrganisationNotFound, MemberNotFound, OrganisationRoleRequired, LastOwner,
        NoSeatLeft, or what `proof` raises where an owner is made or unmade."""
        async with self.unit_of_work() as work:
            entered = await enter(work, organisation_id, by)
            entered.actor.require(Act.SEAT)
            member = await work.members.get(organisation_id, user_id)
            if member is None:
                raise MemberNotFound(user_id)
            acting = _Acting(work, entered, origin, self.clock.now())
            if change.role is not None and change.role is not member.role:
                member = await acting.give_role(member, change.role, proof)
            differs = change.seated is not member.is_seated or member.seat_lost_at is not None
            if change.seated is not None and differs:
                member = await acting.seat(member, change.seated)
        return member


@dataclass(frozen=True, slots=True)
class _Acting:
    work: UnitOfWork
    entered: Entered
    origin: Origin
    at: datetime

    async def give_role(self, member: Member, role: OrganisationRole, proof: FreshProof) -> Member:
        actor, work = self.entered.actor, self.work
        actor.require(Act.CHANGE_ROLES)
        actor.require_rule_over(member.role)
        actor.require_rule_over(role)
        if OrganisationRole.OWNER in (member.role, role):
            await proof()
        if member.is_owner:
            await ensure_another_owner(work, member)
        changed = member.with_role(role)
        await work.members.save([changed])
        await withdraw_beyond_role(work, changed, self.at)
        await self._note("member.role_changed", member, role=role.value, before=member.role.value)
        return changed

    async def seat(self, member: Member, seated: bool) -> Member:
        organisation = self.entered.organisation
        self.entered.actor.require_rule_over(member.role)
        if seated:
            member = await assign_seat(self.work, organisation, member, self.at)
        else:
            await self._tell_loss(member)
            await release_seats(self.work, organisation, [member])
            member = member.without_seat()
        await self._note("member.seated" if seated else "member.unseated", member)
        return member

    async def _tell_loss(self, member: Member) -> None:
        sat = member.seated_at
        # Who gives and takes a seat in turn must not be able to fill a mailbox.
        if sat is None or self.at - sat < _SAT_BRIEFLY:
            return
        if member.user_id != self.entered.actor.user_id:
            organisation = self.entered.organisation
            await mail_lost_seats(self.work, organisation, [member], self.at, reason="taken")

    async def _note(self, action: str, member: Member, **facts: str) -> None:
        await self.work.audit.note(
            AuditEntry.in_organisation(
                action,
                member.organisation_id,
                self.at,
                self.origin,
                by=self.entered.actor.user_id,
                user_id=member.user_id,
                **facts,
            )
        )


async def ensure_another_owner(work: UnitOfWork, owner: Member) -> None:
    """Raises LastOwner. The organisation is held, so that two owners can't both go at once."""
    if (await work.members.headcount(owner.organisation_id)).owners <= 1:
        raise LastOwner


async def withdraw_beyond_role(work: UnitOfWork, member: Member, at: datetime) -> None:
    """Withdraw the invitations that this member could not send any more."""
    kept = RULES[member.role] if member.may(Act.INVITE) else frozenset()
    beyond = frozenset(OrganisationRole) - kept
    await work.invitations.withdraw_by(member.organisation_id, member.user_id, at, roles=beyond)
