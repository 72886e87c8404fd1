"""Forget a user: nothing is sold to them any more."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from services.billing.actions._keep_subscription import keep_step
from services.billing.domain.billing_cycle import Rules, brought_up_to, granted
from services.billing.domain.ports import UnitOfWork
from shared.erasure import BATCH, Forget, Left
from shared.ids import UserId
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass


@dataclass(frozen=True)
class ForgetUser(Forget[UnitOfWork]):
    """End the user's subscription, and drop it and their billing details; those of a business that
    is still to be invoiced with its last invoice.

    What services outside the suite said beside the user's usage goes too, and what the billing team
    wrote beside their payments. The ledger, the record of
    what they paid for, and invoices with the name on them stay: books are kept. The first two hold
    an id that no longer leads to anybody; none, what was said.
    """

    service: ClassVar[str] = "billing"

    rules: Rules = Rules()

    async def erase(self, work: UnitOfWork, user_id: UserId) -> Left:
        """All of it with the first step, but for what others said beside the usage: that goes in
        pieces."""
        await work.webhooks.forget(user_id)
        await work.dashboard_passes.forget(user_id)
        await work.subscriptions.forget_reader(user_id)
        await work.payments.forget_notes(user_id)
        is_all = await work.outside.forget(user_id, most=BATCH)
        if await work.subscriptions.get(user_id) is not None:
            await self._end_subscription(work, user_id)
        # Only now is it known whether there is anything left to invoice.
        await work.details.forget(user_id, self.clock.now())
        return Left.NOTHING if is_all else Left.MORE

    async def _end_subscription(self, work: UnitOfWork, user_id: UserId) -> None:
        now = self.clock.now()
        present = await work.subscriptions.hold(user_id)
        by_now = brought_up_to(present, now, await work.plan_prices.all(), self.rules)
        ended = granted(by_now.subscription, DEFAULT_TIER.name, None, now)
        # A change like any other, so that a month is charged up to this day and no further, and
        # whoever follows subscriptions hears of it.
        step = replace(ended, charges=(*by_now.charges, *ended.charges))
        await keep_step(work, present, step, by=user_id)
        await work.subscriptions.delete(user_id)
