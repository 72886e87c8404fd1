"""Organisations: founding, roles, seats and leaving, on ports in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.auth.actions.change_member import ChangeMember, MemberChange
from services.auth.actions.create_organisation import CreateOrganisation
from services.auth.actions.delete_organisation import DeleteOrganisation
from services.auth.actions.list_members import ListMembers
from services.auth.actions.remove_member import RemoveMember, leave_for_good
from services.auth.actions.rename_organisation import RenameOrganisation
from services.auth.actions.show_organisation import ShowOrganisation
from services.auth.domain.errors import (
    InAnOrganisation,
    LastOwner,
    MemberNotFound,
    NoSeatLeft,
    OrganisationNotFound,
    OrganisationRoleRequired,
)
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import Invitation, InvitationToken, Member, OrganisationId
from services.auth.domain.origin import NOWHERE
from services.auth.domain.user import User
from shared.events.organisation import OrganisationDeleted
from shared.events.seat import SeatAssigned, SeatReleased
from tests.support.auth import NOON, Memory, StoppedClock, a_user
from tests.support.auth_organisations import a_member, an_organisation

OWNER, ADMIN = OrganisationRole.OWNER, OrganisationRole.ADMIN
BILLING, MEMBER = OrganisationRole.BILLING, OrganisationRole.MEMBER
FIRM = an_organisation(NOON, tier="enterprise", seats=5)
OTHER = an_organisation(NOON)
ada = a_member(a_user("ada"), FIRM, "owner", since=NOON)
anne = a_member(a_user("anne"), FIRM, "admin", since=NOON)
ben = a_member(a_user("ben"), FIRM, "billing", since=NOON, seated=False)
mel = a_member(a_user("mel"), FIRM, "member", since=NOON)
olga = a_member(a_user("olga"), OTHER, "owner", since=NOON)
lone = a_user("lone")
EVERYBODY = (ada, anne, ben, mel, olga, lone)


class StepUp(Exception):
    """What the door raises when a proof is too old."""


async def proven() -> None:
    """A fresh proof."""


async def stale() -> None:
    raise StepUp


def memory(*users: User) -> Memory:
    kept = Memory().keep(*(users or EVERYBODY))
    kept.organisations |= {FIRM.id: FIRM, OTHER.id: OTHER}
    return kept


async def change(
    kept: Memory, user: User, *, by: User, proof: Any = proven, **parts: Any
) -> Member:
    action = ChangeMember(kept.work, StoppedClock())
    wanted = MemberChange(**parts)
    return await action(FIRM.id, user.id, wanted, by=by.id, origin=NOWHERE, proof=proof)


async def remove(kept: Memory, user: User, *, by: User, proof: Any = proven) -> None:
    action = RemoveMember(kept.work, StoppedClock())
    await action(FIRM.id, user.id, by=by.id, origin=NOWHERE, proof=proof)


def role_of(kept: Memory, user: User) -> str | None:
    place = kept.accounts[user.id].membership
    return place.role.value if place else None


def events(kept: Memory) -> list[Any]:
    return [fact.event for fact in kept.published]


def audited(kept: Memory) -> list[str]:
    return [entry.action for entry in kept.audited]


# Founding, looking, renaming, dissolving


async def test_a_founder_owns_the_organisation_and_has_its_seat() -> None:
    kept = memory()
    founded = await CreateOrganisation(kept.work, StoppedClock())(
        "Analytical", by=lone.id, origin=NOWHERE
    )
    organisation = founded.organisation
    assert (organisation.tier, organisation.seats) == ("free", 1)
    assert (founded.actor.role, founded.actor.is_seated) == (OWNER, True)
    assert role_of(kept, lone) == "owner"
    assert events(kept) == [SeatAssigned(organisation_id=organisation.id, user_id=lone.id)]
    [entry] = kept.audited
    assert (entry.action, entry.actor_id, entry.organisation_id) == (
        "organisation.created",
        lone.id,
        organisation.id,
    )


async def test_one_organisation_at_a_time() -> None:
    kept = memory()
    with pytest.raises(InAnOrganisation):
        await CreateOrganisation(kept.work, StoppedClock())("Mine", by=mel.id, origin=NOWHERE)
    assert set(kept.organisations) == {FIRM.id, OTHER.id}


async def test_members_see_their_own_organisation_and_no_other() -> None:
    kept = memory()
    show = ShowOrganisation(kept.work)
    entered, count = await show(FIRM.id, by=mel.id)
    assert (entered.organisation, entered.actor.role) == (FIRM, MEMBER)
    assert (count.members, count.owners, count.seated) == (4, 1, 3)
    assert await show.of(lone.id) is None
    found = await show.of(ben.id)
    assert found is not None and found[0].actor.role is BILLING
    for stranger in (olga, lone):
        with pytest.raises(OrganisationNotFound):
            await show(FIRM.id, by=stranger.id)


async def test_who_runs_it_sees_the_members() -> None:
    kept = memory()
    members = ListMembers(kept.work)
    for viewer in (ada, anne, ben):
        assert len(await members(FIRM.id, by=viewer.id, after=None, most=10)) == 4
    with pytest.raises(OrganisationRoleRequired):
        await members(FIRM.id, by=mel.id, after=None, most=10)
    with pytest.raises(OrganisationNotFound):
        await members(FIRM.id, by=olga.id, after=None, most=10)


async def test_owners_and_admins_rename_it() -> None:
    kept = memory()
    rename = RenameOrganisation(kept.work, StoppedClock())
    await rename(FIRM.id, "Babbage", by=anne.id, origin=NOWHERE)
    assert kept.organisations[FIRM.id].name.text == "Babbage"
    for user, refusal in ((ben, OrganisationRoleRequired), (olga, OrganisationNotFound)):
        with pytest.raises(refusal):
            await rename(FIRM.id, "Mine", by=user.id, origin=NOWHERE)


async def test_only_an_owner_dissolves_it_and_everybody_falls_back_to_their_own_tier() -> None:
    kept = memory()
    delete = DeleteOrganisation(kept.work, StoppedClock())
    for user in (anne, ben, mel):
        with pytest.raises(OrganisationRoleRequired):
            await delete(FIRM.id, by=user.id, origin=NOWHERE)
    await delete(FIRM.id, by=ada.id, origin=NOWHERE)
    assert set(kept.organisations) == {OTHER.id}
    assert {kept.accounts[u.id].effective_tier for u in (ada, anne, ben, mel)} == {"free"}
    assert set(kept.retiered) == {ada.id, anne.id, mel.id}
    told = events(kept)
    [gone] = [event for event in told if isinstance(event, OrganisationDeleted)]
    assert (gone.organisation_id, gone.user_id) == (FIRM.id, ada.id)
    assert set(gone.decided) == {ada.id, anne.id, ben.id}
    assert sum(isinstance(event, SeatReleased) for event in told) == 3
    assert role_of(kept, olga) == "owner"


# Roles


@pytest.mark.parametrize(
    ("by", "user", "role", "allowed"),
    [
        (ada, mel, ADMIN, True),
        (ada, mel, OWNER, True),
        (ada, anne, MEMBER, True),
        (anne, mel, ADMIN, True),
        (anne, anne, MEMBER, True),
        (anne, mel, OWNER, False),
        (anne, anne, OWNER, False),
        (anne, ada, MEMBER, False),
        (ben, mel, BILLING, False),
        (ben, ben, OWNER, False),
        (mel, mel, ADMIN, False),
    ],
)
async def test_who_gives_which_role(
    by: User, user: User, role: OrganisationRole, allowed: bool
) -> None:
    kept = memory()
    before = role_of(kept, user)
    if allowed:
        assert (await change(kept, user, by=by, role=role)).role is role
        assert audited(kept) == ["member.role_changed"]
    else:
        with pytest.raises(OrganisationRoleRequired):
            await change(kept, user, by=by, role=role)
    assert role_of(kept, user) == (role.value if allowed else before)


async def test_making_and_unmaking_owners_needs_a_fresh_proof() -> None:
    second = a_member(a_user("second"), FIRM, "owner", since=NOON)
    kept = memory(*EVERYBODY, second)
    with pytest.raises(StepUp):
        await change(kept, mel, by=ada, role=OWNER, proof=stale)
    with pytest.raises(StepUp):
        await change(kept, second, by=ada, role=MEMBER, proof=stale)
    with pytest.raises(StepUp):
        await remove(kept, second, by=ada, proof=stale)
    with pytest.raises(StepUp):
        await remove(kept, ada, by=ada, proof=stale)
    await change(kept, mel, by=ada, role=ADMIN, proof=stale)
    await remove(kept, anne, by=ada, proof=stale)


async def test_the_last_owner_stays_one() -> None:
    kept = memory()
    with pytest.raises(LastOwner):
        await change(kept, ada, by=ada, role=ADMIN)
    with pytest.raises(LastOwner):
        await remove(kept, ada, by=ada)
    await change(kept, anne, by=ada, role=OWNER)
    await remove(kept, ada, by=ada)
    with pytest.raises(LastOwner):
        await remove(kept, anne, by=anne)


async def test_members_of_other_organisations_are_not_found() -> None:
    kept = memory()
    for user in (olga, lone):
        with pytest.raises(MemberNotFound):
            await change(kept, user, by=ada, role=MEMBER)
        with pytest.raises(MemberNotFound):
            await remove(kept, user, by=ada)
        with pytest.raises(OrganisationNotFound):
            await change(kept, mel, by=user, role=ADMIN)
        with pytest.raises(OrganisationNotFound):
            await remove(kept, mel, by=user)
        with pytest.raises(OrganisationNotFound):
            await remove(kept, user, by=user)


# Seats


async def test_a_seat_brings_the_organisations_tier_and_its_loss_takes_it() -> None:
    kept = memory()
    assert (await change(kept, ben, by=anne, seated=True)).is_seated
    assert kept.accounts[ben.id].effective_tier == "enterprise"
    assert not (await change(kept, ben, by=anne, seated=False)).is_seated
    assert kept.accounts[ben.id].effective_tier == "free"
    place = {"organisation_id": FIRM.id, "user_id": ben.id}
    assert events(kept) == [SeatAssigned(**place), SeatReleased(**place)]
    assert kept.retiered == [ben.id, ben.id]
    assert audited(kept) == ["member.seated", "member.unseated"]


async def test_no_more_seats_than_were_paid_for() -> None:
    kept = memory()
    kept.organisations[FIRM.id] = replace(FIRM, seats=3)
    with pytest.raises(NoSeatLeft):
        await change(kept, ben, by=ada, seated=True)
    await change(kept, mel, by=ada, seated=False)
    assert (await change(kept, ben, by=ada, seated=True)).is_seated


async def test_the_same_again_changes_nothing() -> None:
    kept = memory()
    await change(kept, mel, by=ada, seated=True, role=MEMBER)
    await change(kept, ben, by=ada, seated=False)
    await change(kept, ben, by=ada)
    assert (events(kept), audited(kept), kept.retiered) == ([], [], [])


async def test_an_admin_takes_no_seat_from_an_owner() -> None:
    kept = memory()
    with pytest.raises(OrganisationRoleRequired):
        await change(kept, ada, by=anne, seated=False)
    with pytest.raises(OrganisationRoleRequired):
        await change(kept, mel, by=ben, seated=False)


# Leaving


async def test_everybody_may_leave() -> None:
    kept = memory()
    for user in (mel, ben, anne):
        await remove(kept, user, by=user)
        assert role_of(kept, user) is None
    assert audited(kept) == ["member.left"] * 3
    assert kept.retiered == [mel.id, anne.id]


async def test_who_may_remove_whom() -> None:
    kept = memory()
    for by, user in ((anne, ada), (ben, mel), (mel, ben)):
        with pytest.raises(OrganisationRoleRequired):
            await remove(kept, user, by=by)
    await remove(kept, mel, by=anne)
    assert role_of(kept, mel) is None
    assert events(kept) == [SeatReleased(organisation_id=FIRM.id, user_id=mel.id)]
    assert audited(kept) == ["member.removed"]


def offer(kept: Memory, by: User, role: OrganisationRole, *, name: str) -> Invitation:
    inviter = Member.joining(OrganisationId(FIRM.id), by, OWNER, NOON)
    made = Invitation.to(a_user(name).email, role, InvitationToken.fresh(), by=inviter, at=NOON)
    kept.invitations[made.id] = made
    return made


async def test_invitations_go_with_the_power_to_send_them() -> None:
    second = a_member(a_user("second"), FIRM, "owner", since=NOON)
    kept = memory(*EVERYBODY, second)
    offer(kept, second, OWNER, name="x")
    as_admin = offer(kept, second, ADMIN, name="y")
    by_another = offer(kept, ada, OWNER, name="z")

    def still_open() -> set[Any]:
        return {one.id for one in kept.invitations.values() if one.is_open(NOON)}

    await change(kept, second, by=ada, role=ADMIN)
    assert still_open() == {as_admin.id, by_another.id}
    await change(kept, second, by=ada, role=BILLING)
    assert still_open() == {by_another.id}
    again = offer(kept, anne, MEMBER, name="w")
    await remove(kept, anne, by=ada)
    assert again.id not in still_open()


# Accounts that are deleted


async def leave_all(kept: Memory, user: User) -> None:
    async with kept.work() as work:
        await leave_for_good(work, kept.accounts[user.id], NOON + timedelta(hours=1), NOWHERE)


async def test_a_deleted_members_place_is_free_again() -> None:
    kept = memory()
    await leave_all(kept, mel)
    await leave_all(kept, lone)
    assert role_of(kept, mel) is None
    assert events(kept) == [SeatReleased(organisation_id=FIRM.id, user_id=mel.id)]


async def test_the_last_owner_is_not_deleted_while_others_depend_on_them() -> None:
    kept = memory()
    with pytest.raises(LastOwner):
        await leave_all(kept, ada)
    assert role_of(kept, ada) == "owner"


async def test_an_organisation_goes_with_its_only_member() -> None:
    kept = memory()
    await leave_all(kept, olga)
    assert set(kept.organisations) == {FIRM.id}
    deleted = OrganisationDeleted(organisation_id=OTHER.id, user_id=olga.id, decided=(olga.id,))
    assert deleted in events(kept)
