"""Many hands on one organisation: seats, owners and invitations, on the real database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.auth.actions._assign_seats import fit_to_seats
from services.auth.actions.accept_invitation import AcceptInvitation
from services.auth.actions.change_member import ChangeMember, MemberChange
from services.auth.actions.follow_subscriptions import FollowSubscriptions
from services.auth.actions.invite_member import InviteMember
from services.auth.actions.remove_member import RemoveMember, leave_for_good
from services.auth.domain.errors import (
    AccountGone,
    InAnOrganisation,
    InvitationNotFound,
    LastOwner,
    NoSeatLeft,
    OrganisationNotFound,
    OrganisationRoleRequired,
)
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    Invitation,
    InvitationId,
    InvitationToken,
    Member,
    Organisation,
)
from services.auth.domain.origin import NOWHERE
from services.auth.domain.user import EmailAddress, User
from services.auth.storage.unit_of_work import News, SqlWork
from shared.clock import SystemClock
from shared.db.database import Database
from shared.errors import DependencyUnavailable
from shared.events import Fact
from shared.events.subscription import SubscriptionChanged
from shared.ids import UserId, uuid7
from shared.limits.admission import tier_key
from shared.limits.current_tiers import CurrentTiers
from shared.valkey import open_cache
from tests.support.auth import HeldKeys, a_user, some_signing_keys
from tests.support.auth_organisations import an_organisation
from tests.support.waiting import until_locked_out

NewWork = Callable[[], SqlWork]
OWNER, MEMBER = OrganisationRole.OWNER, OrganisationRole.MEMBER
NOW = datetime.now(UTC).replace(microsecond=0)
CLOCK = SystemClock()


async def proven() -> None:
    """A fresh proof."""


def somebody(**parts: Any) -> User:
    return a_user(f"user{uuid4().hex[:12]}", email_verified=True, **parts)


async def founded(
    new_work: NewWork, *owners: User, members: Sequence[User] = (), **parts: Any
) -> Organisation:
    """An organisation whose members joined one minute after the other, all with a seat."""
    organisation = an_organisation(NOW, **{"tier": "enterprise", "seats": 50, **parts})
    people = [*((user, OWNER) for user in owners), *((user, MEMBER) for user in members)]
    async with new_work() as work:
        await work.organisations.add(organisation)
        for minute, (user, role) in enumerate(people):
            await work.users.add(user)
            joined = NOW + timedelta(minutes=minute)
            member = Member.joining(organisation.id, user, role, joined).seated(joined)
            await work.members.add(member)
    return organisation


async def invited(
    new_work: NewWork, organisation: Organisation, by: User, guests: Collection[User]
) -> list[InvitationToken]:
    tokens = []
    async with new_work() as work:
        inviter = await work.members.get(organisation.id, by.id)
        assert inviter is not None
        for guest in guests:
            tokens.append(InvitationToken.fresh())
            await work.invitations.add(
                Invitation.to(guest.email, MEMBER, tokens[-1], by=inviter, at=NOW)
            )
    return tokens


def outcomes(results: Sequence[Any]) -> dict[str, int]:
    names = [type(result).__name__ for result in results]
    return {name: names.count(name) for name in set(names)}


async def test_fifty_accept_at_once_and_one_gets_the_one_free_seat(
    new_work: NewWork, database: Database
) -> None:
    owner, guests = somebody(), [somebody() for _ in range(50)]
    firm = await founded(new_work, owner, seats=2)
    async with new_work() as work:
        for guest in guests:
            await work.users.add(guest)
    tokens = await invited(new_work, firm, owner, guests)
    accept = AcceptInvitation(new_work, CLOCK)
    results = await asyncio.gather(
        *(
            accept(token, by=guest.id, origin=NOWHERE)
            for token, guest in zip(tokens, guests, strict=True)
        ),
        return_exceptions=True,
    )
    assert outcomes(results) == {"Entered": 1, "NoSeatLeft": 49}
    async with new_work() as work:
        count = await work.members.headcount(firm.id)
        assert (count.members, count.seated) == (2, 2)
        # Whoever came too late may try again when there is a seat.
        assert await work.invitations.count_open(firm.id, NOW) == 49
    told = await database.fetch(
        "select stream from outbox where envelope -> 'data' ->> 'organisation_id' = $1",
        str(firm.id),
    )
    assert [row["stream"] for row in told] == ["seat.assigned.enterprise"]


async def test_one_invitation_lets_one_in_however_often_it_is_used(new_work: NewWork) -> None:
    owner, guest = somebody(), somebody()
    firm = await founded(new_work, owner)
    async with new_work() as work:
        await work.users.add(guest)
    [token] = await invited(new_work, firm, owner, [guest])
    accept = AcceptInvitation(new_work, CLOCK)
    results = await asyncio.gather(
        *(accept(token, by=guest.id, origin=NOWHERE) for _ in range(8)), return_exceptions=True
    )
    assert outcomes(results) == {"Entered": 1, "InvitationNotFound": 7}


async def test_of_two_organisations_at_once_a_user_joins_one(new_work: NewWork) -> None:
    guest, owners = somebody(), [somebody() for _ in range(4)]
    async with new_work() as work:
        await work.users.add(guest)
    tokens = []
    for owner in owners:
        firm = await founded(new_work, owner)
        tokens += await invited(new_work, firm, owner, [guest])
    accept = AcceptInvitation(new_work, CLOCK)
    results = await asyncio.gather(
        *(accept(token, by=guest.id, origin=NOWHERE) for token in tokens), return_exceptions=True
    )
    assert outcomes(results) == {"Entered": 1, "InAnOrganisation": 3}
    assert any(isinstance(result, InAnOrganisation) for result in results)


async def test_an_account_that_is_deleted_meanwhile_joins_nothing(
    new_work: NewWork, database: Database
) -> None:
    owner, guest = somebody(), somebody()
    firm = await founded(new_work, owner)
    member = Member.joining(firm.id, guest, MEMBER, NOW)
    with pytest.raises(AccountGone):
        async with new_work() as work:
            await work.members.add(member)
    assert await database.fetch("select from membership where user_id = $1", guest.id) == []


async def test_two_owners_demote_each_other_and_one_stays(new_work: NewWork) -> None:
    change = ChangeMember(new_work, CLOCK)
    for _round in range(3):
        one, other = somebody(), somebody()
        firm = await founded(new_work, one, other)
        results = await asyncio.gather(
            *(
                change(
                    firm.id,
                    whom.id,
                    MemberChange(role=MEMBER),
                    by=who.id,
                    origin=NOWHERE,
                    proof=proven,
                )
                for who, whom in ((one, other), (other, one))
            ),
            return_exceptions=True,
        )
        # The second is no owner any more by the time that it is their turn.
        assert outcomes(results) == {"Member": 1, "OrganisationRoleRequired": 1}
        assert any(isinstance(result, OrganisationRoleRequired) for result in results)
        async with new_work() as work:
            assert (await work.members.headcount(firm.id)).owners == 1


async def test_two_owners_leave_at_once_and_one_stays(new_work: NewWork) -> None:
    remove = RemoveMember(new_work, CLOCK)
    one, other = somebody(), somebody()
    firm = await founded(new_work, one, other, members=[somebody()])

    async def delete_account(user: User) -> None:
        async with new_work() as work:
            held = await work.users.hold(user.id)
            assert held is not None
            await leave_for_good(work, held, NOW, NOWHERE)

    results = await asyncio.gather(
        remove(firm.id, one.id, by=one.id, origin=NOWHERE, proof=proven),
        delete_account(other),
        return_exceptions=True,
    )
    assert outcomes(results) == {"NoneType": 1, "LastOwner": 1}
    assert any(isinstance(result, LastOwner) for result in results)


async def test_who_was_removed_while_they_waited_changes_nothing(
    new_work: NewWork, database: Database
) -> None:
    one, other, member = somebody(), somebody(), somebody()
    firm = await founded(new_work, one, other, members=[member])
    remove, change = RemoveMember(new_work, CLOCK), ChangeMember(new_work, CLOCK)
    async with new_work() as work:
        await work.organisations.hold(firm.id)
        waiting = asyncio.create_task(
            change(
                firm.id,
                member.id,
                MemberChange(role=OWNER),
                by=other.id,
                origin=NOWHERE,
                proof=proven,
            )
        )
        await until_locked_out(database)
        held = await work.members.get(firm.id, other.id)
        assert held is not None
        await work.members.remove(held)
    with pytest.raises(OrganisationNotFound):
        await waiting
    with pytest.raises(LastOwner):
        await remove(firm.id, one.id, by=one.id, origin=NOWHERE, proof=proven)


async def test_seats_bought_and_taken_at_once_are_never_too_many(new_work: NewWork) -> None:
    owner, guests = somebody(), [somebody() for _ in range(6)]
    firm = await founded(new_work, owner, seats=7)
    async with new_work() as work:
        for guest in guests:
            await work.users.add(guest)
    tokens = await invited(new_work, firm, owner, guests)
    accept, follow = AcceptInvitation(new_work, CLOCK), FollowSubscriptions(new_work, CLOCK)
    results = await asyncio.gather(
        *(
            accept(token, by=guest.id, origin=NOWHERE)
            for token, guest in zip(tokens, guests, strict=True)
        ),
        follow([subscribed(firm, owner, seats=3, revision=1)]),
        return_exceptions=True,
    )
    unforeseen = [
        result
        for result in results
        if isinstance(result, Exception) and not isinstance(result, NoSeatLeft)
    ]
    assert unforeseen == []
    async with new_work() as work:
        assert (await work.members.headcount(firm.id)).seated == 3
        kept = await work.members.get(firm.id, owner.id)
        assert kept is not None and kept.is_seated


def subscribed(
    firm: Organisation, by: User, *, seats: int, revision: int, tier: str = "enterprise"
) -> Fact[SubscriptionChanged]:
    event = SubscriptionChanged(
        user_id=by.id, tier_name=tier, seats=seats, revision=revision, organisation_id=firm.id
    )
    return Fact(event=event, subject=firm.id, tier=tier)


@dataclass
class Counting:
    """A connection, and how often it was asked."""

    connection: Any
    statements: int = 0

    def __getattr__(self, name: str) -> Any:
        self.statements += name in ("execute", "fetch", "fetchrow")
        return getattr(self.connection, name)


async def test_many_seats_that_go_and_come_back_cost_as_many_statements_as_few(
    new_work: NewWork, database: Database
) -> None:
    asked = []
    for size in (2, 40):
        owner, members = somebody(), [somebody() for _ in range(size)]
        firm = await founded(new_work, owner, members=members)
        for seats in (1, 50):
            async with new_work() as work:
                work.connection = counting = Counting(work.connection)
                work.open_repositories()
                asked.append(await fit_to_seats(work, replace(firm, seats=seats), NOW))
            asked.append(counting.statements)
        rows = await database.fetch(
            "select action from audit_event where organisation_id = $1", firm.id
        )
        assert Counter(row["action"] for row in rows) == {
            "member.unseated": size,
            "member.seated": size,
        }
        mails = await database.fetch(
            "select recipient from outgoing_mail where recipient = any($1)",
            [member.email.text for member in members],
        )
        assert len(mails) == size
        async with new_work() as work:
            assert len(await work.members.seated(firm.id)) == size + 1
    few, many = asked[:4], asked[4:]
    assert (few[0], many[0]) == (2, 40)
    assert few[1:] == many[1:]


async def test_a_lost_seat_is_told_to_valkey_at_once(new_work: NewWork, cache_url: str) -> None:
    owner, early, late = somebody(), somebody(), somebody(tier="pro")
    firm = await founded(new_work, owner, members=[early, late])
    follow = FollowSubscriptions(new_work, CLOCK)
    await follow([subscribed(firm, owner, seats=2, revision=1)])
    async with new_work() as work:
        assert {member.user_id for member in await work.members.seated(firm.id)} == {
            owner.id,
            early.id,
        }
    async with open_cache(cache_url) as cache:
        assert await cache.get(tier_key(str(late.id))) == b"pro"
        assert await cache.get(tier_key(str(owner.id))) is None
        await follow([subscribed(firm, owner, seats=2, revision=2, tier="free")])
        for user in (owner, early):
            assert await cache.get(tier_key(str(user.id))) == b"free"


async def test_of_two_changes_the_one_that_was_committed_last_stays_told(
    database: Database, news: News, new_work: NewWork, cache_url: str
) -> None:
    user = somebody()
    async with new_work() as work:
        await work.users.add(user)
    committed, may_tell = asyncio.Event(), asyncio.Event()

    class Held(CurrentTiers):
        """Tells only when it may."""

        async def tell(self, tiers: Mapping[UserId, str]) -> None:
            committed.set()
            await may_tell.wait()
            await super().tell(tiers)

    async with open_cache(cache_url) as cache:
        slow = News(news.ended_sessions, Held(cache))
        late = FollowSubscriptions(
            lambda: SqlWork(database, slow, HeldKeys(some_signing_keys())), CLOCK
        )
        early_change = asyncio.create_task(late([paid(user, tier="pro", revision=1)]))
        await committed.wait()
        await FollowSubscriptions(new_work, CLOCK)([paid(user, tier="enterprise", revision=2)])
        assert await cache.get(tier_key(str(user.id))) == b"enterprise"

        may_tell.set()
        await early_change

        assert await cache.get(tier_key(str(user.id))) == b"enterprise"


async def test_what_can_not_be_looked_up_again_is_not_told_for_long(
    database: Database, news: News, new_work: NewWork, cache_url: str
) -> None:
    user = somebody()
    async with new_work() as work:
        await work.users.add(user)

    class Away(SqlWork):
        """Whose database goes away after the commit."""

        async def __aexit__(self, *failure: Any) -> None:
            self._database = away
            await super().__aexit__(*failure)

    class Nowhere:
        def connection(self) -> Any:
            raise DependencyUnavailable("database")

    away: Any = Nowhere()
    follow = FollowSubscriptions(lambda: Away(database, news, HeldKeys(some_signing_keys())), CLOCK)
    await follow([paid(user, tier="pro", revision=1)])
    async with open_cache(cache_url) as cache:
        assert await cache.get(tier_key(str(user.id))) == b"pro"
        assert 0 < await cache.ttl(tier_key(str(user.id))) <= 60


def paid(user: User, *, tier: str, revision: int) -> Fact[SubscriptionChanged]:
    event = SubscriptionChanged(user_id=user.id, tier_name=tier, seats=1, revision=revision)
    return Fact(event=event, subject=user.id, tier=tier)


# What is kept


async def test_everything_comes_back_as_it_went(new_work: NewWork) -> None:
    owner, guest = somebody(), somebody()
    firm = await founded(new_work, owner, subscription_revision=2**40)
    [token] = await invited(new_work, firm, owner, [guest])
    async with new_work() as work:
        assert await work.organisations.get(firm.id) == firm
        made = await work.invitations.shown(token)
        assert made is not None
        assert await work.invitations.get(firm.id, made.id) == made
        assert await work.invitations.open_of(firm.id, NOW, before=None, most=9) == [made]
        assert await work.invitations.open_of(firm.id, NOW, before=made.id, most=9) == []
        assert await work.invitations.sent_since(
            firm.id, guest.email, NOW - timedelta(hours=1)
        ) == [NOW]
        assert await work.invitations.sent_since(firm.id, guest.email, NOW) == []
        user = await work.users.get(owner.id)
        assert user is not None and user.membership is not None
        assert (user.membership.organisation_id, user.effective_tier) == (firm.id, "enterprise")
        assert await work.members.has_address(firm.id, owner.email)
        assert not await work.members.has_address(firm.id, guest.email)


async def test_another_organisations_rows_are_out_of_reach(new_work: NewWork) -> None:
    owner, other_owner = somebody(), somebody()
    firm, other = await founded(new_work, owner), await founded(new_work, other_owner)
    [token] = await invited(new_work, firm, owner, [somebody()])
    async with new_work() as work:
        made = await work.invitations.shown(token)
        assert made is not None
        assert await work.invitations.get(other.id, made.id) is None
        assert await work.members.get(other.id, owner.id) is None
        await work.invitations.withdraw_to(other.id, made.email, NOW)
        await work.invitations.withdraw_by(other.id, owner.id, NOW, roles=list(OrganisationRole))
        assert await work.invitations.count_open(firm.id, NOW) == 1
        mine = await work.members.get(firm.id, owner.id)
        assert mine is not None
        await work.members.save([replace(mine, organisation_id=other.id).without_seat()])
        assert await work.members.get(firm.id, owner.id) == mine


async def test_expired_invitations_are_forgotten_in_pieces(new_work: NewWork) -> None:
    owner = somebody()
    firm = await founded(new_work, owner)
    tokens = await invited(new_work, firm, owner, [somebody() for _ in range(3)])
    long_ago = NOW - timedelta(days=1000)
    async with new_work() as work:
        for token in tokens[:2]:
            made = await work.invitations.shown(token)
            assert made is not None
            old = InvitationToken.fresh()
            await work.invitations.add(
                replace(made, id=InvitationId(uuid7()), token_hash=old.hash, expires_at=long_ago)
            )
        at = long_ago + timedelta(seconds=1)
        assert await work.invitations.forget_before(at, most=1) == 1
        assert await work.invitations.forget_before(at, most=5) == 1
        assert await work.invitations.count_open(firm.id, NOW) == 3


async def test_the_mailed_token_is_the_one_that_opens(
    new_work: NewWork, database: Database
) -> None:
    owner, guest = somebody(), somebody()
    firm = await founded(new_work, owner)
    async with new_work() as work:
        await work.users.add(guest)
    invite = InviteMember(new_work, CLOCK)
    await invite(firm.id, guest.email.text, MEMBER, by=owner.id, origin=NOWHERE, proof=proven)
    [row] = await database.fetch(
        "select id from outgoing_mail where recipient = $1", guest.email.text
    )
    async with new_work() as work:
        soon = datetime.now(UTC) + timedelta(minutes=1)
        mail = await work.mails.claim(row["id"], soon, until=soon)
    assert mail is not None
    assert mail.recipient == EmailAddress(guest.email.text)
    entered = await AcceptInvitation(new_work, CLOCK)(
        InvitationToken(mail.facts["token"]), by=guest.id, origin=NOWHERE
    )
    assert entered.actor.user_id == guest.id
    with pytest.raises(InvitationNotFound):
        await AcceptInvitation(new_work, CLOCK)(InvitationToken("\0"), by=guest.id, origin=NOWHERE)
