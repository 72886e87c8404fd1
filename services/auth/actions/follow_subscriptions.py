"""Let users' tiers follow what they have paid for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.events import Fact
from shared.events.subscription import SubscriptionChanged
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class FollowSubscriptions:
    """Take over tiers, whatever the order in which the facts arrive and however often."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, facts: Sequence[Fact[SubscriptionChanged]]) -> None:
        async with self.unit_of_work() as work:
            unseen = await work.unseen(fact.id for fact in facts)
            newest = _newest(fact.event for fact in facts if fact.id in unseen)
            if newest:
                await work.users.set_tiers(newest, self.clock.now())


def _newest(changes: Iterable[SubscriptionChanged]) -> Mapping[UserId, tuple[str, int]]:
    newest: dict[UserId, tuple[str, int]] = {}
    for change in sorted(changes, key=lambda change: change.revision):
        newest[UserId(change.user_id)] = (change.tier_name, change.revision)
    return newest
