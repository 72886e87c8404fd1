"""Write to users whose spending came to a mark of theirs, or whose webhook was switched off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.events import Event, Fact
from shared.events.spend import SpendReached
from shared.events.webhook import WebhookDisabled
from shared.ids import UserId

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class MailBillingNews:
    """Queue a mail for each fact that was not heard before, to proven addresses alone."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def spending(self, facts: Sequence[Fact[SpendReached]]) -> None:
        """What a month was about that has ended meanwhile is no news any more."""
        now = self.clock.now()
        current = [fact for fact in facts if fact.event.resets_at > now]
        await self._mail(MailKind.SPEND_REACHED, current, _of_spending, lambda e: e.user_id)

    async def webhooks(self, facts: Sequence[Fact[WebhookDisabled]]) -> None:
        """To whoever made the webhook."""
        await self._mail(MailKind.WEBHOOK_DISABLED, facts, _of_webhook, lambda e: e.user_id)

    async def _mail(
        self,
        kind: MailKind,
        facts: Sequence[Fact[E]],
        words: Callable[[E], Mapping[str, str]],
        whom: Callable[[E], UUID],
    ) -> None:
        async with self.unit_of_work() as work:
            unseen = await work.unseen(fact.id for fact in facts)
            for event in {fact.id: fact.event for fact in facts if fact.id in unseen}.values():
                user = await work.users.get(UserId(whom(event)))
                if user is None or not user.is_active or not user.email_verified:
                    continue
                mail = Mail.make(kind, user.email, self.clock.now(), **words(event))
                await work.mails.add(mail, to=user)


def _of_spending(event: SpendReached) -> Mapping[str, str]:
    return {
        "month": event.month,
        "spent": _dollars(event.spent_microusd),
        "threshold": _dollars(event.threshold_microusd),
        "resets_at": f"{event.resets_at:%Y-%m-%d %H:%M} UTC",
    }


def _of_webhook(event: WebhookDisabled) -> Mapping[str, str]:
    return {"host": event.host, "webhook_id": str(event.webhook_id), "reason": event.reason}


def _dollars(microusd: int) -> str:
    cents = microusd // 10_000
    return f"{cents // 100:,}.{cents % 100:02}"
