"""Who hears by mail that a limit is near."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.auth.actions.mail_limits import MailLimits
from services.auth.domain.mail import MailKind
from services.auth.domain.mail_texts import letter
from services.auth.domain.user import User
from shared.events import Fact
from shared.events.limit import LimitReached
from tests.support.auth import Memory, StoppedClock, a_user

CLOCK = StoppedClock()
ADA = replace(a_user("ada"), email_verified=True)


def reached(
    user: UUID = ADA.id, percent: int = 80, hours: int = 2, *, refused: bool = False
) -> Fact[LimitReached]:
    event = LimitReached(
        user_id=user,
        window="openai.requests_per_day",
        percent=percent,
        limit=50,
        used=41,
        resets_at=CLOCK.now() + timedelta(hours=hours),
        refused=refused,
    )
    return Fact(event=event, subject=user, tier="free", source="billing")


async def test_one_mail_for_each_fact_however_often_it_comes() -> None:
    memory = Memory().keep(ADA)
    mail_limits, fact = MailLimits(memory.work, CLOCK), reached()
    await mail_limits([fact, fact])
    await mail_limits([fact])
    [mail] = memory.mails
    assert (mail.kind, mail.recipient) == (MailKind.LIMIT_REACHED, ADA.email)
    text = letter(mail.id, mail.kind, mail.recipient, mail.facts, "https://companion.example.com")
    assert text.subject == "A limit of your plan is near"
    assert "41 of 50 (openai: requests per day), which is 80 percent" in text.text


async def test_what_was_refused_is_told_as_that() -> None:
    memory = Memory().keep(ADA)
    await MailLimits(memory.work, CLOCK)([reached(percent=100, refused=True)])
    [mail] = memory.mails
    text = letter(mail.id, mail.kind, mail.recipient, mail.facts, "https://companion.example.com")
    assert text.subject == "A limit of your plan is reached"
    assert "41 of 50 (openai: requests per day), and what is left had no room" in text.text


@pytest.mark.parametrize(
    "user", [replace(ADA, email_verified=False), replace(ADA, is_active=False)]
)
async def test_nobody_is_written_to_at_an_address_that_is_not_proven(user: User) -> None:
    memory = Memory().keep(user)
    await MailLimits(memory.work, CLOCK)([reached()])
    assert memory.mails == []


async def test_what_is_no_news_any_more_and_strangers_are_left_out() -> None:
    memory = Memory().keep(ADA)
    await MailLimits(memory.work, CLOCK)([reached(hours=-1), reached(uuid4())])
    assert memory.mails == []


async def test_a_full_window_is_told_otherwise_than_one_that_fills() -> None:
    memory = Memory().keep(ADA)
    await MailLimits(memory.work, CLOCK)([reached(percent=100)])
    [mail] = memory.mails
    text = letter(mail.id, mail.kind, mail.recipient, mail.facts, "https://companion.example.com")
    assert text.subject == "A limit of your plan is reached"
    assert "are refused" in text.text
