"""What may become of a subscription."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from services.billing.domain.errors import OneSeatOnly, UnknownTier
from services.billing.domain.subscription import State, Subscription
from shared.ids import UserId
from tests.support.billing import NOON

ADA = UserId(uuid4())
FREE = Subscription.initial(ADA)
TEAM = Subscription(ADA, "enterprise", seats=5, revision=3, changed_at=NOON)


def test_who_never_chose_has_the_free_tier() -> None:
    assert (FREE.tier_name, FREE.seats, FREE.revision) == ("free", 1, 0)


def test_each_change_is_a_revision() -> None:
    pro = FREE.changed_to("pro", None, NOON)
    assert (pro.tier_name, pro.revision, pro.changed_at) == ("pro", 1, NOON)
    assert pro.changed_to("free", None, NOON).revision == 2


def test_the_same_again_changes_nothing() -> None:
    assert TEAM.changed_to("enterprise", 5, NOON) is TEAM
    assert TEAM.changed_to("enterprise", None, NOON) is TEAM
    assert FREE.changed_to("free", 1, NOON) is FREE


def test_an_unknown_tier_is_refused() -> None:
    for name in ("gold", "", "FREE", "\x00"):
        with pytest.raises(UnknownTier):
            FREE.changed_to(name, None, NOON)


@pytest.mark.parametrize("tier", ["free", "pro"])
def test_only_a_tier_that_is_sold_by_the_seat_has_several(tier: str) -> None:
    with pytest.raises(OneSeatOnly):
        FREE.changed_to(tier, 2, NOON)
    assert FREE.changed_to("enterprise", 2, NOON).seats == 2


def test_seats_end_with_the_tier_that_has_them() -> None:
    assert TEAM.changed_to("pro", None, NOON).seats == 1


def test_each_seat_costs() -> None:
    assert FREE.price_microusd_per_month == 0
    assert TEAM.changed_to("enterprise", 6, NOON).price_microusd_per_month == 90_000_000
    assert TEAM.price_microusd_per_month == 75_000_000


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (State.ACTIVE, State.CANCELLED),
        (State.TRIALING, State.CANCELLED),
        # What is owed is the nearer trouble.
        (State.PAST_DUE, State.PAST_DUE),
        (State.ENDED, State.ENDED),
    ],
)
def test_one_that_ends_with_its_period_is_shown_as_cancelled(state: State, shown: State) -> None:
    assert replace(TEAM, state=state, cancels=True).shown_state is shown
    assert replace(TEAM, state=state).shown_state is state
