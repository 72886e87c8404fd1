"""Who hears by mail of their spending and of a webhook that was switched off."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.auth.actions.mail_billing_news import MailBillingNews
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mail_texts import letter
from shared.events import Fact
from shared.events.payment import PaymentDue, PaymentOverdue
from shared.events.spend import SpendReached
from shared.events.subscription import SubscriptionEnded
from shared.events.webhook import WebhookDisabled
from tests.support.auth import NOON, Memory, StoppedClock, a_user
from tests.support.auth_organisations import a_member, an_organisation

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


FIRM = an_organisation(NOON, tier="enterprise", seats=9)


def owing(kind: type[PaymentDue] | type[PaymentOverdue], holder: UUID, **parts: Any) -> Fact[Any]:
    facts = {"tier_name": "enterprise", "amount_microusd": 60_000_000, **parts}
    event = kind(holder_id=holder, is_organisation=holder == FIRM.id, **facts)
    return Fact(event=event, subject=holder, tier="enterprise", source="billing")


async def test_a_due_payment_is_told_once_to_those_who_decide() -> None:
    roles = ("owner", "billing", "member")
    people = [
        replace(a_member(a_user(role), FIRM, role, since=NOON), email_verified=True)
        for role in roles
    ]
    memory = Memory().keep(*people, replace(a_member(a_user("late"), FIRM, "admin", since=NOON)))
    memory.organisations[FIRM.id] = FIRM
    news = MailBillingNews(memory.work, CLOCK)
    fact = owing(PaymentDue, FIRM.id, holds_until=datetime(2026, 12, 9, 12, tzinfo=UTC))
    await news.payments([fact, fact])
    await news.payments([fact])
    assert {mail.recipient for mail in memory.mails} == {one.email for one in people[:2]}
    assert len(memory.mails) == 2
    text = text_of(memory.mails[0])
    assert "60.00 US dollars, before tax, are due for the plan “enterprise” of the" in text
    assert "organisation “Lovelace & Sons”" in text
    assert "holds until 2026-12-09 12:00 UTC" in text


async def test_an_overdue_payment_and_the_end_are_told_to_a_user() -> None:
    memory = Memory().keep(ADA)
    news = MailBillingNews(memory.work, CLOCK)
    await news.overdue([owing(PaymentOverdue, ADA.id, tier_name="pro")])
    facts = {"holder_id": ADA.id, "is_organisation": False, "tier_name": "pro"}
    ended = SubscriptionEnded(**facts, reason="unpaid")
    await news.endings([Fact(event=ended, subject=ADA.id, tier="free", source="billing")])
    overdue, over = memory.mails
    assert (overdue.kind, over.kind) == (MailKind.PAYMENT_OVERDUE, MailKind.TIER_ENDED)
    assert "60.00 US dollars, before tax, have not come for your plan “pro”" in text_of(overdue)
    assert "Your plan “pro” has ended. The payment for it did not come." in text_of(over)


async def test_of_an_organisation_that_is_gone_nobody_hears() -> None:
    memory = Memory().keep(ADA)
    await MailBillingNews(memory.work, CLOCK).payments([owing(PaymentDue, FIRM.id)])
    assert memory.mails == []
