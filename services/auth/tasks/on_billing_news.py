"""`spend.*` and `webhook.*`: users hear by mail what billing has to tell them."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions import Actions
from services.auth.tasks import listen
from shared.events import Fact
from shared.events.spend import SpendReached
from shared.events.webhook import WebhookDisabled


@listen.to(SpendReached, queue="limits")
async def mail_spending(facts: Sequence[Fact[SpendReached]], actions: Actions) -> None:
    """One mail for each, once."""
    await actions.mail_billing_news.spending(facts)


@listen.to(WebhookDisabled, queue="limits")
async def mail_webhooks(facts: Sequence[Fact[WebhookDisabled]], actions: Actions) -> None:
    """One mail for each, once."""
    await actions.mail_billing_news.webhooks(facts)
