"""Write to users about what billing has to tell them: marks of spending, webhooks that were
switched off, payments, tiers that ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.organisation import MAY, Act, OrganisationId
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.events import Event, Fact
from shared.events.payment import PaymentDue, PaymentOverdue
from shared.events.spend import SpendReached
from shared.events.subscription import SubscriptionEnded
from shared.events.webhook import WebhookDisabled
from shared.ids import UserId
from shared.values import dataclass

E = TypeVar("E", bound=Event)
H = TypeVar("H", PaymentDue, PaymentOverdue, SubscriptionEnded)


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

    async def payments(self, facts: Sequence[Fact[PaymentDue]]) -> None:
        """To who pays, or in an organisation to those who decide about what is bought."""
        await self._mail_holders(MailKind.PAYMENT_DUE, facts, _of_payment)

    async def overdue(self, facts: Sequence[Fact[PaymentOverdue]]) -> None:
        """Likewise."""
        await self._mail_holders(MailKind.PAYMENT_OVERDUE, facts, _of_payment)

    async def endings(self, facts: Sequence[Fact[SubscriptionEnded]]) -> None:
        """Likewise."""
        await self._mail_holders(MailKind.TIER_ENDED, facts, _of_ending)

    async def _mail_holders(
        self,
        kind: MailKind,
        facts: Sequence[Fact[H]],
        words: Callable[[H], Mapping[str, str]],
    ) -> None:
        async with self.unit_of_work() as work:
            unseen = await work.unseen(fact.id for fact in facts)
            for event in {fact.id: fact.event for fact in facts if fact.id in unseen}.values():
                name, whom = await _holder(work, event)
                for user_id in whom:
                    user = await work.users.get(user_id)
                    if user is None or not user.is_active or not user.email_verified:
                        continue
                    told = {**words(event), "tier": event.tier_name, "organisation": name}
                    mail = Mail.make(kind, user.email, self.clock.now(), **told)
                    await work.mails.add(mail, to=user)

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


async def _holder(
    work: UnitOfWork, event: PaymentDue | PaymentOverdue | SubscriptionEnded
) -> tuple[str, Sequence[UserId]]:
    """The organisation's name, where it is one, and who pays."""
    if not event.is_organisation:
        return "", [UserId(event.holder_id)]
    organisation = await work.organisations.get(OrganisationId(event.holder_id))
    if organisation is None:
        return "", []
    deciding = await work.members.with_roles(organisation.id, MAY[Act.BUY])
    return organisation.name.text, [member.user_id for member in deciding]


def _of_payment(event: PaymentDue | PaymentOverdue) -> Mapping[str, str]:
    until = event.holds_until
    return {
        "amount": _dollars(event.amount_microusd),
        "holds_until": f"{until:%Y-%m-%d %H:%M} UTC" if until else "",
    }


def _of_ending(event: SubscriptionEnded) -> Mapping[str, str]:
    return {"reason": event.reason}


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
