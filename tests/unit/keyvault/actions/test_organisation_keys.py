"""Keys of organisations: who stores them, who uses them, whose line stands in the trail."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from services.keyvault.domain.audit import Kind
from services.keyvault.domain.errors import (
    KeyAdminRequired,
    KeyNotFound,
    KeyNotUsable,
    OrganisationKeysNotFound,
)
from services.keyvault.domain.organisation import ClaimedSeat, SeatNews
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import Status
from shared.erasure import ErasureId
from shared.errors import DependencyUnavailable
from shared.events.key import KeyRevoked, KeyValidated, KeyValidationRequested
from shared.ids import UserId, uuid7
from tests.support.keyvault import NOON, Desk, a_grant, ada, an_open_desk, grace

FIRM, OTHER = UUID(int=0xF1), UUID(int=0xF2)
FIRMS, OWN = "sk-of-the-firm-0123456789", "sk-of-the-member-0123456789"
SECOND = timedelta(seconds=1)


def seated(organisation: UUID = FIRM, *, taken: bool = True) -> ClaimedSeat:
    return ClaimedSeat(organisation, taken, NOON)


async def a_desk(*, own: Status | None = None, firms: Status | None = Status.VALID) -> Desk:
    """ada may have a key of her own; grace stores the organisation's."""
    desk = await an_open_desk()
    if own is not None:
        await desk.store_key("openai", OWN, by=ada, tier="free")
        await become(desk, Owner.user(ada), own)
    if firms is not None:
        await desk.store_key(
            "openai", FIRMS, by=grace, of=Owner.organisation(FIRM), tier="enterprise"
        )
        await become(desk, Owner.organisation(FIRM), firms)
    return desk


async def become(desk: Desk, owner: Owner, status: Status) -> None:
    key = desk.store.keys[owner, "openai"]
    desk.store.keys[owner, "openai"] = (
        key.revoked(NOON) if status is Status.REVOKED else replace(key, status=status)
    )


async def used_by_ada(desk: Desk, seat: ClaimedSeat | None) -> str:
    header = await desk.use_key(a_grant(), caller=ada, provider="openai", seat=seat)
    return header["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    ("own", "firms", "served"),
    [
        (None, Status.VALID, FIRMS),
        (Status.VALID, Status.VALID, OWN),
        (Status.PENDING, Status.VALID, OWN),
        (Status.VALID, Status.INVALID, OWN),
        (Status.VALID, None, OWN),
        (Status.INVALID, Status.VALID, FIRMS),
        (Status.REVOKED, Status.LIMITED, FIRMS),
    ],
)
async def test_ones_own_working_key_goes_first_then_the_organisations(
    own: Status | None, firms: Status | None, served: str
) -> None:
    desk = await a_desk(own=own, firms=firms)
    assert await used_by_ada(desk, seated()) == served


@pytest.mark.parametrize(
    ("own", "firms", "refusal"),
    [
        (None, None, KeyNotFound),
        (None, Status.REVOKED, KeyNotFound),
        (Status.REVOKED, Status.INVALID, KeyNotUsable),
        (Status.INVALID, Status.REVOKED, KeyNotUsable),
        (Status.INVALID, Status.INVALID, KeyNotUsable),
    ],
)
async def test_where_no_key_works_the_refusal_is_about_the_one_that_is_there(
    own: Status | None, firms: Status | None, refusal: type[Exception]
) -> None:
    desk = await a_desk(own=own, firms=firms)
    with pytest.raises(refusal):
        await used_by_ada(desk, seated())


@pytest.mark.parametrize("seat", [None, seated(taken=False), seated(OTHER)])
async def test_without_a_seat_there_the_organisations_key_does_not_exist(
    seat: ClaimedSeat | None,
) -> None:
    desk = await a_desk()
    with pytest.raises(KeyNotFound):
        await used_by_ada(desk, seat)
    assert desk.key_uses.noted == []


@pytest.mark.parametrize(
    ("claimed", "told", "after", "may"),
    [
        (True, False, SECOND, False),
        (True, False, -20 * SECOND, True),
        (False, True, SECOND, True),
        (False, True, -20 * SECOND, False),
        # Of about the same time: the token may have been made while the seat was being taken.
        (True, False, -5 * SECOND, False),
    ],
)
async def test_the_newer_of_token_and_news_decides_about_a_seat(
    claimed: bool, told: bool, after: timedelta, may: bool
) -> None:
    desk = await a_desk()
    await desk.note_seats([SeatNews(ada, FIRM, told, NOON + after)])
    seat = seated(taken=claimed)
    if may:
        assert await used_by_ada(desk, seat) == FIRMS
    else:
        with pytest.raises(KeyNotFound):
            await used_by_ada(desk, seat)


async def test_news_of_a_seat_may_come_twice_and_in_any_order() -> None:
    desk = await a_desk()
    lost, found = (
        SeatNews(ada, FIRM, taken, NOON + step * SECOND) for taken, step in ((False, 1), (True, 2))
    )
    await desk.note_seats([found, lost])
    await desk.note_seats([lost])
    assert await used_by_ada(desk, seated()) == FIRMS


async def test_the_trail_names_who_did_what_with_an_organisations_key() -> None:
    desk = await a_desk()
    await used_by_ada(desk, seated())
    (use,) = desk.key_uses.noted
    assert (use.owner.user_id, use.kind) == (ada, Kind.USED)
    firm = Owner.organisation(FIRM)
    (stored,) = await desk.read_audit(by=grace, of=firm, before=None, most=9)
    assert (stored.kind, stored.owner, stored.user_id) == (Kind.STORED, firm, grace)
    assert await desk.read_audit(by=grace, before=None, most=9) == [stored]
    assert await desk.read_audit(by=ada, before=None, most=9) == []


async def test_each_organisation_and_each_user_reaches_their_own_key_alone() -> None:
    desk = await an_open_desk()
    owners = [Owner.user(ada), Owner.user(grace), Owner.organisation(FIRM)]
    # The same id for a user and an organisation: the type keeps them apart.
    owners.append(Owner.organisation(ada))
    for number, owner in enumerate(owners):
        await desk.store_key("openai", f"sk-number-{number}-0123456789", by=ada, of=owner, tier="x")
    envelopes = {owner: desk.store.keys[owner, "openai"].secret for owner in owners}
    for number, owner in enumerate(owners):
        hint = f"sk-number-{number}-0123456789"[-4:]
        (key,) = await desk.list_keys(by=grace, of=owner)
        assert (key.owner, hint in key.hint) == (owner, True)
        assert desk.store.data_keys[owner].owner == owner
    fingerprints = {secret.fingerprint.digest for secret in envelopes.values() if secret}
    assert len(fingerprints) == len(owners)


async def test_only_key_admins_enter_and_strangers_find_nothing() -> None:
    desk = await an_open_desk()
    desk.key_admins.may = {(FIRM, ada): True, (FIRM, grace): False}
    assert await desk.enter_organisation(FIRM, by=ada) == Owner.organisation(FIRM)
    with pytest.raises(KeyAdminRequired):
        await desk.enter_organisation(FIRM, by=grace)
    for organisation, user in ((OTHER, ada), (FIRM, UserId(UUID(int=9)))):
        with pytest.raises(OrganisationKeysNotFound):
            await desk.enter_organisation(organisation, by=user)
    desk.key_admins.may = None
    with pytest.raises(DependencyUnavailable):
        await desk.enter_organisation(FIRM, by=ada)


async def test_what_is_told_of_an_organisations_key_names_it() -> None:
    desk = await a_desk()
    (asked,) = desk.store.events(KeyValidationRequested)
    await desk.revoke_key("openai", by=grace, of=Owner.organisation(FIRM), tier="free")
    (gone,) = desk.store.events(KeyRevoked)
    for event in (asked, gone):
        assert (event.user_id, event.organisation_id) == (FIRM, FIRM)  # type: ignore[attr-defined]
    assert desk.store.events(KeyValidated) == []
    assert Owner.organisation(FIRM) not in desk.store.data_keys


async def test_an_organisation_that_ends_takes_its_keys_along_for_good() -> None:
    desk = await a_desk(own=Status.VALID)
    firm = Owner.organisation(FIRM)
    desk.vault.seal("keyring_missing")
    await desk.end_organisation(FIRM)
    await desk.end_organisation(FIRM)
    assert list(desk.store.keys) == [(Owner.user(ada), "openai")]
    assert list(desk.store.data_keys) == [Owner.user(ada)]
    (told,) = desk.store.events(KeyRevoked)
    assert told.organisation_id == FIRM  # type: ignore[attr-defined]
    assert {line.owner for line in desk.store.trail} == {Owner.user(ada)}
    await desk.examine_vault()
    with pytest.raises(OrganisationKeysNotFound):
        await desk.store_key("openai", FIRMS, by=grace, of=firm, tier="free")


async def test_a_deleted_members_name_leaves_the_organisations_trail() -> None:
    desk = await a_desk()
    await desk.note_seats([SeatNews(grace, FIRM, True, NOON)])
    await desk.forget_user.begin([(grace, ErasureId(uuid7()))])
    (line,) = desk.store.trail
    assert (line.owner, line.user_id) == (Owner.organisation(FIRM), None)
    assert desk.store.organisations.seats == {}
    await desk.note_seats([SeatNews(grace, FIRM, False, NOON + SECOND)])
    assert desk.store.organisations.seats == {}
    assert await used_by_ada(desk, seated()) == FIRMS
    # The token outlives the account.
    with pytest.raises(KeyNotFound):
        await desk.use_key(a_grant(grace), caller=grace, provider="openai", seat=seated())


async def test_old_news_of_seats_is_dropped() -> None:
    desk = await an_open_desk()
    await desk.note_seats([SeatNews(ada, FIRM, False, NOON)])
    await desk.drop_old_seats()
    assert len(desk.store.organisations.seats) == 1
    desk.clock.forward(timedelta(days=2))
    await desk.drop_old_seats()
    assert desk.store.organisations.seats == {}
