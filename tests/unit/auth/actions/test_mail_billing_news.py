"""Who hears by mail of their spending and of a webhook that was switched off."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from services.auth.actions.mail_billing_news import MailBillingNews
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mail_texts import letter
from shared.events import Fact
from shared.events.spend import SpendReached
from shared.events.webhook import WebhookDisabled
from tests.support.auth import Memory, StoppedClock, a_user

CLOCK = StoppedClock()
ADA = replace(a_user("ada"), email_verified=True)


def spent(days: int = 2) -> Fact[SpendReached]:
    event = SpendReached(
        user_id=ADA.id,
        month="2026-11",
        threshold_microusd=5_000_000,
        spent_microusd=1_234_567_891,
        resets_at=CLOCK.now() + timedelta(days=days),
    )
    return Fact(event=event, subject=ADA.id, tier="free", source="billing")


def text_of(mail: Mail) -> str:
    return letter(mail.id, mail.kind, mail.recipient, mail.facts, "https://example.com").text


async def test_spending_is_told_once_while_its_month_lasts() -> None:
    memory = Memory().keep(ADA)
    news, fact = MailBillingNews(memory.work, CLOCK), spent()
    await news.spending([fact, fact])
    await news.spending([fact, spent(days=-1)])
    [mail] = memory.mails
    assert (mail.kind, mail.recipient) == (MailKind.SPEND_REACHED, ADA.email)
    assert "costs 1,234.56 US dollars" in text_of(mail)
    assert "told at 5.00" in text_of(mail)


async def test_nobody_is_written_to_at_an_address_that_is_not_proven() -> None:
    memory = Memory().keep(replace(ADA, email_verified=False))
    await MailBillingNews(memory.work, CLOCK).spending([spent()])
    assert memory.mails == []


async def test_whose_webhook_was_switched_off_is_told_why() -> None:
    memory = Memory().keep(ADA)
    for reason, words in (("gone", "that it is gone"), ("failing", "arrived for five days")):
        event = WebhookDisabled(
            user_id=ADA.id,
            webhook_id=uuid4(),
            host="hooks.example.com",
            reason=reason,
            disabled_at=CLOCK.now(),
        )
        fact = Fact(event=event, subject=ADA.id, tier="free", source="billing")
        await MailBillingNews(memory.work, CLOCK).webhooks([fact])
        text = text_of(memory.mails[-1])
        assert "The webhook at hooks.example.com" in text
        assert words in text
