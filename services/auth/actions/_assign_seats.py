"""Assign and release seats in an organisation that the unit of work holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import NoSeatLeft
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.organisation import (
    SEAT_COMES_BACK_WITHIN,
    Member,
    Organisation,
    getting_seats_back,
    losing_their_seats,
)
from services.auth.domain.ports import UnitOfWork
from shared.events.seat import SeatAssigned, SeatReleased


async def require_free_seat(work: UnitOfWork, organisation: Organisation) -> None:
    """Raises NoSeatLeft."""
    if (await work.members.headcount(organisation.id)).seated >= organisation.seats_to_give:
        raise NoSeatLeft(organisation.seats, organisation.next_seats)


async def assign_seat(
    work: UnitOfWork, organisation: Organisation, member: Member, at: datetime
) -> Member:
    """Seat a member, who then has the organisation's tier. Raises NoSeatLeft."""
    if member.is_seated:
        return member
    await require_free_seat(work, organisation)
    seated = member.seated(at)
    await work.members.save([seated])
    await tell_assigned(work, organisation, [seated])
    return seated


async def release_seats(
    work: UnitOfWork, organisation: Organisation, members: Sequence[Member]
) -> None:
    """Free the seats of these members, who fall back to the tier of their own."""
    await work.members.save([member.without_seat() for member in members])
    await tell_released(work, organisation, [member for member in members if member.is_seated])


async def fit_to_seats(work: UnitOfWork, organisation: Organisation, at: datetime) -> int:
    """Let stand up who sits there too many, or sit down again, while seats are free, who had to
    stand up a short while ago. Answers how many seats were lost."""
    seated = await work.members.seated(organisation.id)
    losing = losing_their_seats(seated, organisation.seats)
    await work.members.save([member.losing_seat(at) for member in losing])
    await tell_released(work, organisation, losing)
    await _note(work, "member.unseated", losing, at, reason="fewer_seats")
    await mail_lost_seats(work, organisation, losing, at, reason="fewer_seats")
    free = organisation.seats_to_give - len(seated)
    if free > 0:
        lost = await work.members.who_lost_seats(organisation.id, at - SEAT_COMES_BACK_WITHIN)
        back = [member.with_seat_back() for member in getting_seats_back(lost, free)]
        await work.members.save(back)
        await tell_assigned(work, organisation, back)
        await _note(work, "member.seated", back, at, reason="seats_came_back")
    return len(losing)


async def mail_lost_seats(
    work: UnitOfWork,
    organisation: Organisation,
    members: Sequence[Member],
    at: datetime,
    *,
    reason: str,
) -> None:
    """Tell members, at proven addresses. `reason`: fewer_seats, taken, removed or dissolved."""
    users = await work.users.get_all([member.user_id for member in members])
    facts = {"organisation": organisation.name.text, "reason": reason}
    await work.mails.add_all(
        [
            (Mail.make(MailKind.SEAT_LOST, user.email, at, **facts), user)
            for user in users
            if user.is_active and user.email_verified
        ]
    )


async def _note(
    work: UnitOfWork, action: str, members: Sequence[Member], at: datetime, *, reason: str
) -> None:
    """By the system: what was paid for has decided it."""
    await work.audit.note_all(
        [
            AuditEntry.in_organisation(
                action, member.organisation_id, at, by=None, user_id=member.user_id, reason=reason
            )
            for member in members
        ]
    )


async def tell_assigned(
    work: UnitOfWork, organisation: Organisation, members: Sequence[Member]
) -> None:
    """Say that these members are seated now."""
    for member in members:
        event = SeatAssigned(organisation_id=organisation.id, user_id=member.user_id)
        work.publish(event, subject=member.user_id, tier=organisation.tier)
    await work.users.note_tiers([member.user_id for member in members])


async def tell_released(
    work: UnitOfWork, organisation: Organisation, members: Sequence[Member]
) -> None:
    """Say that the seats of these members are free again."""
    for member in members:
        event = SeatReleased(organisation_id=organisation.id, user_id=member.user_id)
        work.publish(event, subject=member.user_id, tier=organisation.tier)
    await work.users.note_tiers([member.user_id for member in members])
