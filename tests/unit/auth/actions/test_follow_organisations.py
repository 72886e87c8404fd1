"""An organisation's tier and seats follow its subscription."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from services.auth.actions.follow_subscriptions import FollowSubscriptions
from services.auth.domain.user import User
from shared.events import Fact
from shared.events.seat import SeatReleased
from shared.events.subscription import SubscriptionChanged
from tests.support.auth import NOON, Memory, StoppedClock, a_user
from tests.support.auth_organisations import a_member, an_organisation

FIRM = an_organisation(NOON, tier="enterprise", seats=3, subscription_revision=4)
ada = a_member(a_user("ada"), FIRM, "owner", since=NOON)
early = a_member(a_user("early"), FIRM, "member", since=NOON - timedelta(days=2))
late = a_member(a_user("late"), FIRM, "admin", since=NOON - timedelta(days=1))
own = a_member(a_user("own", tier="pro"), FIRM, "member", since=NOON, seated=False)


def changed(
    tier: str, seats: int, revision: int, *, of: object = FIRM
) -> Fact[SubscriptionChanged]:
    event = SubscriptionChanged(
        user_id=own.id, tier_name=tier, seats=seats, revision=revision, organisation_id=FIRM.id
    )
    if of is not FIRM:
        event = event.model_copy(update={"organisation_id": None})
    return Fact(event=event, subject=FIRM.id, tier=tier)


async def told(*batches: list[Fact[SubscriptionChanged]], kept: Memory | None = None) -> Memory:
    kept = kept or Memory().keep(ada, early, late, own)
    kept.organisations.setdefault(FIRM.id, FIRM)
    for batch in batches:
        await FollowSubscriptions(kept.work, StoppedClock())(batch)
    return kept


def tiers(kept: Memory) -> dict[str, str]:
    return {user.username.text: user.effective_tier for user in kept.accounts.values()}


def seated(kept: Memory) -> set[str]:
    users = kept.accounts.values()
    return {u.username.text for u in users if u.membership and u.membership.is_seated}


async def test_who_is_seated_has_the_new_tier_and_the_buyer_keeps_theirs() -> None:
    kept = await told([changed("pro", 3, 5)])
    assert tiers(kept) == dict.fromkeys(("ada", "early", "late", "own"), "pro")
    assert kept.accounts[own.id].tier == "pro"
    assert set(kept.retiered) == {ada.id, early.id, late.id}
    kept = await told([changed("free", 3, 5)])
    assert tiers(kept) == {"ada": "free", "early": "free", "late": "free", "own": "pro"}


async def test_fewer_seats_are_taken_from_who_came_last_and_from_owners_last() -> None:
    kept = await told([changed("enterprise", 2, 5)])
    assert seated(kept) == {"ada", "early"}
    assert kept.retiered == [late.id]
    [fact] = kept.published
    assert fact.event == SeatReleased(organisation_id=FIRM.id, user_id=late.id)
    kept = await told([changed("enterprise", 1, 6)], kept=kept)
    assert seated(kept) == {"ada"}
    assert tiers(kept)["early"] == "free"


async def test_more_seats_give_nobody_one_by_themselves() -> None:
    kept = await told([changed("enterprise", 1, 5)], [changed("enterprise", 9, 6)])
    assert seated(kept) == {"ada"}
    assert kept.organisations[FIRM.id].seats == 9


async def test_the_highest_revision_wins_in_whatever_order_and_however_often() -> None:
    older, newer = changed("free", 1, 5), changed("enterprise", 2, 6)
    for batches in (
        [[older], [newer]],
        [[newer], [older]],
        [[newer, older, newer]],
        [[older, newer]],
    ):
        kept = await told(*batches)
        firm = kept.organisations[FIRM.id]
        assert (firm.tier, firm.seats, firm.subscription_revision) == ("enterprise", 2, 6)
    kept = await told([changed("free", 1, 4)])
    assert kept.organisations[FIRM.id] == FIRM
    assert (kept.published, kept.retiered, kept.audited) == ([], [], [])


async def test_a_batch_may_be_about_both_kinds() -> None:
    kept = await told([changed("pro", 3, 5), changed("free", 1, 7, of=None)])
    assert kept.organisations[FIRM.id].tier == "pro"
    user: User = kept.accounts[own.id]
    assert (user.tier, user.tier_revision) == ("free", 7)


async def test_news_about_an_organisation_that_is_gone_is_borne() -> None:
    fact = changed("pro", 3, 5)
    gone = replace(fact, event=fact.event.model_copy(update={"organisation_id": own.id}))
    assert (await told([gone])).organisations == {FIRM.id: FIRM}
