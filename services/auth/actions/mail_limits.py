"""Write to users who are near a limit."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.events import Fact
from shared.events.limit import LimitReached
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class MailLimits:
    """Queue a mail for each fact that was not heard before, to proven addresses alone.

    What a window was about that has ended meanwhile is no news any more.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, facts: Sequence[Fact[LimitReached]]) -> None:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            unseen = await work.unseen(fact.id for fact in facts)
            for reached in {fact.id: fact.event for fact in facts if fact.id in unseen}.values():
                if reached.resets_at <= now:
                    continue
                user = await work.users.get(UserId(reached.user_id))
                if user is None or not user.is_active or not user.email_verified:
                    continue
                mail = Mail.make(
                    MailKind.LIMIT_REACHED,
                    user.email,
                    now,
                    window=reached.window.replace("_", " ").replace(".", ": "),
                    percent=str(reached.percent),
                    limit=f"{reached.limit:,}",
                    used=f"{reached.used:,}",
                    resets_at=f"{reached.resets_at:%Y-%m-%d %H:%M} UTC",
                    refused="yes" if reached.refused else "no",
                )
                await work.mails.add(mail, to=user)
