"""`subscription.*`: the tier in our tokens follows what was paid for."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions import Actions
from services.auth.tasks import listen
from shared.events import Fact
from shared.events.subscription import SubscriptionChanged


@listen.to(SubscriptionChanged, queue="subscriptions")
async def take_over_tiers(facts: Sequence[Fact[SubscriptionChanged]], actions: Actions) -> None:
    """The next token of each user carries the new tier."""
    await actions.follow_subscriptions(facts)
