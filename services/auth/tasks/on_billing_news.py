"""`spend.*`, `webhook.*`, `payment.*`: users hear by mail what billing has to tell them."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions import Actions
from services.auth.tasks import listen
from shared.events import Fact
from shared.events.payment import PaymentDue, PaymentOverdue
from shared.events.spend import SpendReached
from shared.events.subscription import SubscriptionEnded
from shared.events.webhook import WebhookDisabled


@listen.to(SpendReached, queue="limits")
async def mail_spending(facts: Sequence[Fact[SpendReached]], actions: Actions) -> None:
    """One mail for each, once."""
    await actions.mail_billing_news.spending(facts)


@listen.to(WebhookDisabled, queue="limits")
async def mail_webhooks(facts: Sequence[Fact[WebhookDisabled]], actions: Actions) -> None:
    """One mail for each, once."""
    await actions.mail_billing_news.webhooks(facts)


@listen.to(PaymentDue, queue="limits")
async def mail_payments(facts: Sequence[Fact[PaymentDue]], actions: Actions) -> None:
    """One mail for each and for who pays, once."""
    await actions.mail_billing_news.payments(facts)


@listen.to(PaymentOverdue, queue="limits")
async def mail_overdue_payments(facts: Sequence[Fact[PaymentOverdue]], actions: Actions) -> None:
    """One mail for each and for who pays, once."""
    await actions.mail_billing_news.overdue(facts)


@listen.to(SubscriptionEnded, queue="limits")
async def mail_endings(facts: Sequence[Fact[SubscriptionEnded]], actions: Actions) -> None:
    """One mail for each and for who pays, once."""
    await actions.mail_billing_news.endings(facts)
