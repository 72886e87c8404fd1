"""What the clock does to subscriptions: periods begin and end, unpaid ones are dunned."""

from __future__ import annotations

import structlog

from services.billing.actions._keep_subscription import keep_steps, take_up
from services.billing.domain.billing_cycle import Rules, Step, brought_up_to
from services.billing.domain.errors import PaymentDeclined, PaymentsUnavailable
from services.billing.domain.ports import NewUnitOfWork, Payments
from services.billing.domain.subscription import Subscription
from shared.clock import Clock
from shared.errors import ExpectedFailure
from shared.values import dataclass

log = structlog.get_logger(__name__)

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class AdvanceSubscriptions:
    """Bring every subscription up to now: the same twice does nothing, and two at once share the
    work."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    payments: Payments
    rules: Rules

    async def __call__(self) -> int:
        """Answers how many subscriptions were due. What is a bug of ours with one of them surfaces,
        and holds up nobody else."""
        try:
            return await self._all()
        except ExpectedFailure:
            raise
        except Exception:
            await self._one_by_one()
            raise

    async def _all(self) -> int:
        total = 0
        while True:
            moved = await self._some()
            total += len(moved)
            # Only after the commit: the payment provider is asked again at the next step at the
            # latest.
            for step in moved:
                if step.retry:
                    await self._collect_again(step.subscription)
            if len(moved) < _AT_ONCE:
                return total

    async def _one_by_one(self) -> None:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            due = await work.subscriptions.due(now, most=_AT_ONCE)
        for one in due:
            try:
                async with self.unit_of_work() as work:
                    await take_up(work, one.holder, now, self.rules)
            except ExpectedFailure:
                raise
            except Exception:
                log.exception("subscription_can_not_advance", holder=str(one.user_id))

    async def _some(self) -> list[Step]:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            due = await work.subscriptions.due(now, most=_AT_ONCE)
            if not due:
                return []
            prices = await work.plan_prices.all()
            steps = [(one, brought_up_to(one, now, prices, self.rules)) for one in due]
            await keep_steps(work, steps)
        return [step for _, step in steps]

    async def _collect_again(self, subscription: Subscription) -> None:
        async with self.unit_of_work() as work:
            payer = await work.payments.payer(subscription.user_id)
        if payer is None or payer.subscription is None or payer.provider != self.payments.name:
            return
        since = subscription.unpaid_since
        attempt = (
            f"{subscription.user_id}/{since and since.isoformat()}/{subscription.dunning_step}"
        )
        try:
            await self.payments.collect_again(payer, attempt)
        except (PaymentDeclined, PaymentsUnavailable):
            # What came of it is told by the payment provider; the next step tries again.
            return
