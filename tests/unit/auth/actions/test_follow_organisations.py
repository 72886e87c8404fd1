"""An organisation's tier and seats follow its subscription."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from services.auth.actions.change_member import ChangeMember, MemberChange
from services.auth.actions.follow_subscriptions import FollowSubscriptions
from services.auth.domain.errors import NoSeatLeft
from services.auth.domain.mail import MailKind
from services.auth.domain.mail_texts import letter
from services.auth.domain.origin import NOWHERE
from services.auth.domain.user import User
from shared.events import Fact
from shared.events.seat import SeatAssigned, SeatReleased
from shared.events.subscription import SubscriptionChanged
from tests.support.auth import NOON, Memory, StoppedClock, a_user
from tests.support.auth_organisations import a_member, an_organisation

FIRM = an_organisation(NOON, tier="enterprise", seats=3, subscription_revision=4)
ada = a_member(a_user("ada"), FIRM, "owner", since=NOON)
early = a_member(a_user("early"), FIRM, "member", since=NOON - timedelta(days=2))
late = a_member(a_user("late"), FIRM, "admin", since=NOON - timedelta(days=1))
own = a_member(a_user("own", tier="pro"), FIRM, "member", since=NOON, seated=False)


def changed(
    tier: str,
    seats: int,
    revision: int,
    *,
    of: object = FIRM,
    next_seats: int | None = None,
    by: UUID = own.id,
) -> Fact[SubscriptionChanged]:
    event = SubscriptionChanged(
        user_id=by,
        tier_name=tier,
        seats=seats,
        revision=revision,
        organisation_id=FIRM.id,
        next_seats=next_seats,
    )
    if of is not FIRM:
        event = event.model_copy(update={"organisation_id": None})
    return Fact(event=event, subject=FIRM.id, tier=tier)


async def no_proof() -> None:
    """As of somebody who has just proven who they are."""


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


async def test_more_seats_give_nobody_one_who_had_none() -> None:
    kept = await told([changed("enterprise", 9, 6)])
    assert seated(kept) == {"ada", "early", "late"}
    assert kept.organisations[FIRM.id].seats == 9


async def test_who_lost_a_seat_has_it_back_with_more_seats_first_come_first() -> None:
    kept = await told([changed("free", 1, 5)], [changed("enterprise", 2, 6)])
    assert seated(kept) == {"ada", "early"}
    assert tiers(kept)["early"] == "enterprise"
    kept = await told([changed("enterprise", 9, 7)], kept=kept)
    assert seated(kept) == {"ada", "early", "late"}
    assert kept.accounts[late.id].membership == late.membership
    back = [fact.event.user_id for fact in kept.published if isinstance(fact.event, SeatAssigned)]
    assert back == [early.id, late.id]


async def test_a_lost_seat_does_not_come_back_late_nor_against_a_decision() -> None:
    kept = await told([changed("free", 1, 5)])
    late_clock = StoppedClock()
    late_clock.forward(timedelta(days=30))
    await FollowSubscriptions(kept.work, late_clock)([changed("enterprise", 9, 6)])
    assert seated(kept) == {"ada"}

    kept = await told([changed("free", 1, 5)])
    change = ChangeMember(kept.work, StoppedClock())
    act = partial(change, FIRM.id, by=ada.id, origin=NOWHERE, proof=no_proof)
    await act(early.id, MemberChange(seated=False))
    kept = await told([changed("enterprise", 9, 6)], kept=kept)
    assert seated(kept) == {"ada", "late"}


async def test_a_free_seat_that_was_given_to_another_is_theirs() -> None:
    kept = await told([changed("enterprise", 1, 5)], [changed("enterprise", 2, 6)])
    assert seated(kept) == {"ada", "early"}
    act = partial(ChangeMember(kept.work, StoppedClock()), FIRM.id, by=ada.id)
    act = partial(act, origin=NOWHERE, proof=no_proof)
    await act(early.id, MemberChange(seated=False))
    await act(own.id, MemberChange(seated=True))
    kept = await told([changed("enterprise", 2, 7)], kept=kept)
    assert seated(kept) == {"ada", "own"}


async def test_the_trail_names_who_lost_a_seat_and_the_clock_is_nobody() -> None:
    kept = await told([changed("free", 1, 5, by=FIRM.id)], [changed("enterprise", 2, 6)])
    noted = [(e.action, e.user_id, e.actor_id, e.facts.get("reason")) for e in kept.audited]
    assert noted == [
        ("member.unseated", early.id, None, "fewer_seats"),
        ("member.unseated", late.id, None, "fewer_seats"),
        ("organisation.subscribed", None, None, None),
        ("member.seated", early.id, None, "seats_came_back"),
        ("organisation.subscribed", None, own.id, None),
    ]


async def test_who_loses_a_seat_is_written_to_at_a_proven_address() -> None:
    kept = Memory().keep(ada, replace(early, email_verified=True), late, own)
    await told([changed("enterprise", 1, 5)], kept=kept)
    [mail] = kept.mails
    assert (mail.kind, mail.recipient) == (MailKind.SEAT_LOST, early.email)
    text = letter(mail.id, mail.kind, mail.recipient, mail.facts, "https://example.com").text
    assert "“Lovelace & Sons”" in text
    assert "within 30 days" in text


async def test_nobody_is_seated_who_would_lose_the_seat_with_the_next_period() -> None:
    wider = await told([changed("enterprise", 4, 5, next_seats=3)])
    act = partial(ChangeMember(wider.work, StoppedClock()), FIRM.id, by=ada.id)
    act = partial(act, origin=NOWHERE, proof=no_proof)
    with pytest.raises(NoSeatLeft) as refused:
        await act(own.id, MemberChange(seated=True))
    assert refused.value.facts == {"seats": 4, "next_seats": 3}
    # The wish is taken back.
    await told([changed("enterprise", 4, 6)], kept=wider)
    await act(own.id, MemberChange(seated=True))
    assert seated(wider) == {"ada", "early", "late", "own"}


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


async def test_whose_seat_is_taken_by_hand_hears_it_unless_they_had_it_for_a_moment() -> None:
    people = [replace(user, email_verified=True) for user in (ada, early, own)]
    kept = Memory().keep(*people)
    kept.organisations[FIRM.id] = FIRM
    act = partial(ChangeMember(kept.work, StoppedClock()), FIRM.id, by=ada.id)
    act = partial(act, origin=NOWHERE, proof=no_proof)
    await act(early.id, MemberChange(seated=False))
    for seat in (True, False, True, False):
        await act(own.id, MemberChange(seated=seat))
    [mail] = kept.mails
    assert (mail.recipient, mail.facts["reason"]) == (early.email, "taken")
    await act(ada.id, MemberChange(seated=False))
    assert len(kept.mails) == 1
