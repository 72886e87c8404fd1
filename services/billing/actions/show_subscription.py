"""The subscription that a user has."""

from __future__ import annotations

from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Subscription
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowSubscription:
    """The user's subscription; who never chose has the initial one."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, user_id: UserId) -> Subscription:
        async with self.unit_of_work() as work:
            return await work.subscriptions.get(user_id) or Subscription.initial(user_id)
