"""Failures about organisations, their members and invitations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
)


class InvalidOrganisationName(Invalid):
    """The text breaks the rules for names of organisations, all of which the message tells."""

    code = "invalid_organisation_name"

    def __init__(self) -> None:
        super().__init__(
            "A name has 1 to 100 printable characters and no space at its ends.", field="name"
        )


class OrganisationNotFound(NotFound):
    """Also raised for one that the caller does not belong to, so that ids can't be probed."""

    code = "organisation_not_found"

    def __init__(self, organisation_id: UUID) -> None:
        super().__init__("No such organisation.", organisation_id=str(organisation_id))


class MemberNotFound(NotFound):
    """The user does not belong to this organisation, or does not exist at all."""

    code = "member_not_found"

    def __init__(self, user_id: UUID) -> None:
        super().__init__("No such member.", user_id=str(user_id))


class InvitationNotFound(NotFound):
    """Never sent, accepted, withdrawn, replaced or expired: all the same to who holds it."""

    code = "invitation_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such invitation, or it is not good any more.")


class OrganisationRoleRequired(Forbidden):
    """The caller belongs to the organisation, but their role there is too small for this."""

    code = "organisation_role_required"

    def __init__(self, act: str, roles: Sequence[str]) -> None:
        super().__init__(f"Your role in the organisation may not {act}.", roles=list(roles))


class InAnOrganisation(Conflict):
    """A user belongs to one organisation at a time."""

    code = "in_an_organisation"

    def __init__(self) -> None:
        super().__init__("You belong to an organisation already. Leave it first.")


class LastOwner(Conflict):
    """An organisation is never without an owner."""

    code = "last_owner"

    def __init__(self) -> None:
        super().__init__(
            "An organisation needs an owner: make somebody else one first, or delete it."
        )


class NoSeatLeft(Conflict):
    """Every seat that was paid for is taken, or those that will be from the next period on."""

    code = "no_seat_left"

    def __init__(self, seats: int, next_seats: int | None = None) -> None:
        if next_seats is not None and next_seats < seats:
            super().__init__(
                "The organisation has fewer seats from the next period on, and they are taken.",
                seats=seats,
                next_seats=next_seats,
            )
        else:
            super().__init__("The organisation has no free seat.", seats=seats)


class AlreadyAMember(Conflict):
    """Who is invited belongs to the organisation already."""

    code = "already_a_member"

    def __init__(self) -> None:
        super().__init__("This address belongs to a member.")


class TooManyInvitations(Conflict):
    """So many invitations are open that somebody should look at them first."""

    code = "too_many_open_invitations"

    def __init__(self, most: int) -> None:
        super().__init__(f"An organisation has at most {most} open invitations.", most=most)


class InvitedTooOften(LimitReached):
    """The address has had several mails from this organisation lately."""

    code = "invited_too_often"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("This address was invited several times today.", retry_after=retry_after)


class InvitedTooMany(LimitReached):
    """Whoever invites has had so many mails sent today, wherever they were an owner or admin."""

    code = "invited_too_many"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("You have invited many people today.", retry_after=retry_after)


class InvitationForAnotherAddress(Forbidden):
    """Whoever shows the invitation has another address than the one it was sent to."""

    code = "invitation_for_another_address"

    def __init__(self) -> None:
        super().__init__("This invitation was sent to another e-mail address.")
