"""Who may do what in an organisation, and who keeps a seat when there are too few."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.auth.domain.errors import InvalidOrganisationName, OrganisationRoleRequired
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    INVITATION_LASTS,
    MAY,
    RULES,
    Act,
    Invitation,
    InvitationToken,
    Member,
    Organisation,
    OrganisationName,
    losing_their_seats,
)
from tests.support.auth import NOON, a_user
from tests.support.auth_organisations import an_organisation

OWNER, ADMIN = OrganisationRole.OWNER, OrganisationRole.ADMIN
BILLING, MEMBER = OrganisationRole.BILLING, OrganisationRole.MEMBER
FIRM = an_organisation(NOON)
HOUR = timedelta(hours=1)


def a(role: OrganisationRole, *, seated_hours_ago: int | None = None) -> Member:
    member = Member.joining(FIRM.id, a_user(), role, NOON)
    return member if seated_hours_ago is None else member.seated(NOON - seated_hours_ago * HOUR)


def test_the_rules_are_these() -> None:
    assert {act.name: "".join(sorted(role.value[0] for role in MAY[act])) for act in Act} == {
        "SEE_MEMBERS": "abo",
        "INVITE": "ao",
        "SEAT": "ao",
        "CHANGE_ROLES": "ao",
        "REMOVE": "ao",
        "RENAME": "ao",
        "SEE_AUDIT": "ao",
        "BUY": "abo",
        "MANAGE_KEYS": "ao",
        "DELETE": "o",
    }


def test_only_owners_make_owners() -> None:
    assert [role for role in OrganisationRole if OWNER in RULES[role]] == [OWNER]
    a(OWNER).require_rule_over(OWNER)
    a(ADMIN).require_rule_over(ADMIN)
    for role in (ADMIN, BILLING, MEMBER):
        with pytest.raises(OrganisationRoleRequired) as refusal:
            a(role).require_rule_over(OWNER)
        assert refusal.value.facts == {"roles": ["owner"]}


@pytest.mark.parametrize("role", [BILLING, MEMBER])
def test_who_manages_nobody_rules_over_nobody(role: OrganisationRole) -> None:
    assert RULES[role] == frozenset()


def test_who_sat_down_last_stands_up_first_and_owners_last() -> None:
    late_owner = a(OWNER, seated_hours_ago=1)
    early, late = a(MEMBER, seated_hours_ago=9), a(ADMIN, seated_hours_ago=2)
    seated = [late, late_owner, early]
    assert losing_their_seats(seated, 3) == []
    assert losing_their_seats(seated, 2) == [late]
    assert losing_their_seats(seated, 1) == [early, late]
    first_owner = a(OWNER, seated_hours_ago=5)
    assert losing_their_seats([late_owner, first_owner], 1) == [late_owner]


def test_a_seat_keeps_its_date() -> None:
    member = a(MEMBER, seated_hours_ago=3)
    assert member.seated(NOON) == member
    assert member.without_seat().seated(NOON).seated_at == NOON


@pytest.mark.parametrize("revision", [0, 4, 5])
def test_an_older_subscription_changes_nothing(revision: int) -> None:
    firm = replace(FIRM, tier="pro", seats=1, subscription_revision=5)
    assert firm.subscribed("enterprise", 9, revision, NOON) == firm


def test_a_later_subscription_is_taken_over() -> None:
    firm: Organisation = FIRM.subscribed("enterprise", 9, 6, NOON + HOUR)
    assert (firm.tier, firm.seats, firm.subscription_revision) == ("enterprise", 9, 6)


@pytest.mark.parametrize(
    "text", ["", " ", " x", "x ", "x" * 101, "a\0b", "a\nb", "\ud800", "a\u202eb", "\u200b"]
)
def test_a_name_that_can_not_be_shown_is_refused(text: str) -> None:
    with pytest.raises(InvalidOrganisationName):
        OrganisationName.parse(text)


def test_a_name_is_kept_in_one_spelling() -> None:
    assert OrganisationName.parse("Cafe\u0301 & Söhne").text == "Café & Söhne"
    assert OrganisationName.parse("X").text == "X"


def test_an_invitation_is_good_for_three_days_and_once() -> None:
    token = InvitationToken.fresh()
    made = Invitation.to(a_user().email, MEMBER, token, by=a(OWNER), at=NOON)
    end = NOON + INVITATION_LASTS
    assert timedelta(hours=72) == INVITATION_LASTS
    assert made.is_open(end - timedelta(seconds=1))
    assert not made.is_open(end)
    assert not made.accepted(NOON, by=made.invited_by).is_open(NOON)
    assert not made.withdrawn(NOON).is_open(NOON)


def test_a_token_has_256_bits_and_shows_itself_nowhere() -> None:
    token = InvitationToken.fresh()
    assert (len(token.text), len(token.hash)) == (43, 32)
    assert token != InvitationToken.fresh()
    made = Invitation.to(a_user().email, MEMBER, token, by=a(OWNER), at=NOON)
    assert token.text not in repr(token) + repr(made)
