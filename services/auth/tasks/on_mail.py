"""`mail.*`: mails go out as soon as they are queued."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter

from services.auth.actions import Actions
from services.auth.actions.send_mails import MailOutcome, Outcomes
from services.auth.tasks import listen
from shared.events import Fact
from shared.events.mail import MailQueued

MAILS = Counter("companion_auth_mails", "Mails by what became of an attempt.", ["outcome"])


@listen.to(MailQueued, queue="mails")
async def send_mails(facts: Sequence[Fact[MailQueued]], actions: Actions) -> None:
    """Send what has just been queued. A second time there is nothing left to send."""
    count(await actions.send_mails([fact.event.mail_id for fact in facts]))


def count(outcomes: Outcomes) -> None:
    for outcome in MailOutcome:
        MAILS.labels(outcome.value).inc(outcomes[outcome])
