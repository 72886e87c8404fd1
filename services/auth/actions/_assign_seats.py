"""Assign and release seats in an organisation that the unit of work holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.auth.domain.errors import NoSeatLeft
from services.auth.domain.organisation import Member, Organisation
from services.auth.domain.ports import UnitOfWork
from shared.events.seat import SeatAssigned, SeatReleased


async def require_free_seat(work: UnitOfWork, organisation: Organisation) -> None:
    """Raises NoSeatLeft."""
    if (await work.members.headcount(organisation.id)).seated >= organisation.seats:
        raise NoSeatLeft(organisation.seats)


async def assign_seat(
    work: UnitOfWork, organisation: Organisation, member: Member, at: datetime
) -> Member:
    """Seat a member, who then has the organisation's tier. Raises NoSeatLeft."""
    if member.is_seated:
        return member
    await require_free_seat(work, organisation)
    seated = member.seated(at)
    await work.members.save([seated])
    await tell_assigned(work, organisation, seated)
    return seated


async def release_seats(
    work: UnitOfWork, organisation: Organisation, members: Sequence[Member]
) -> None:
    """Free the seats of these members, who fall back to the tier of their own."""
    seated = [member for member in members if member.is_seated]
    await work.members.save([member.without_seat() for member in seated])
    await tell_released(work, organisation, seated)


async def tell_assigned(work: UnitOfWork, organisation: Organisation, member: Member) -> None:
    """Say that the member is seated now."""
    event = SeatAssigned(organisation_id=organisation.id, user_id=member.user_id)
    work.publish(event, subject=member.user_id, tier=organisation.tier)
    await work.users.note_tiers([member.user_id])


async def tell_released(
    work: UnitOfWork, organisation: Organisation, members: Sequence[Member]
) -> None:
    """Say that the seats of these members are free again."""
    for member in members:
        event = SeatReleased(organisation_id=organisation.id, user_id=member.user_id)
        work.publish(event, subject=member.user_id, tier=organisation.tier)
    await work.users.note_tiers([member.user_id for member in members])
