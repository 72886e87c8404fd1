"""Send the mails that wait."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import structlog

from services.auth.actions.write_letter import WriteLetter
from services.auth.domain.letter import Letter, NotDelivered, Undeliverable
from services.auth.domain.mail import Mail, UnreadableMail
from services.auth.domain.ports import Mailer, NewUnitOfWork
from shared.clock import Clock
from shared.values import dataclass

log = structlog.get_logger(__name__)

_AT_ONCE = 100
# What large providers let one client have of connections.
_LINES = 3
# Then the clock goes on with what is left, and whatever else waits for the worker has its turn.
_LONGEST_ROUND = timedelta(minutes=1)
# Longer than the slowest attempt; after a crash the mail is tried again so much later.
_LEASE = timedelta(minutes=5)
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(days=1)
_PATIENCE = timedelta(days=3)


class MailOutcome(StrEnum):
    """What became of an attempt."""

    SENT = "sent"
    NOTHING_TO_SEND = "nothing_to_send"
    TRIED_IN_VAIN = "tried_in_vain"
    GIVEN_UP = "given_up"


Outcomes = Counter[MailOutcome]


@dataclass(frozen=True, slots=True)
class SendMails:
    """Send each mail once (after a crash between sending and noting it: twice).

    Without a mailer nothing is touched: the mails wait until there is one.
    """

    unit_of_work: NewUnitOfWork
    mailer: Mailer | None
    write: WriteLetter
    clock: Clock

    async def due(self) -> Outcomes:
        """Those whose time has come, by the clock."""
        async with self.unit_of_work() as work:
            waiting = await work.mails.due(self.clock.now(), most=_AT_ONCE)
        return await self(waiting)

    async def __call__(self, mail_ids: Iterable[UUID]) -> Outcomes:
        """These, as far as they wait and nobody else has them."""
        outcomes: Outcomes = Counter()
        waiting = deque(mail_ids)
        if self.mailer is None or not waiting:
            return outcomes
        # The first one alone: it shows whether the server is there at all.
        await self._send_next(self.mailer, waiting, outcomes)
        until = self.clock.now() + _LONGEST_ROUND
        lines = [self._send_in_turn(self.mailer, waiting, outcomes, until) for _ in range(_LINES)]
        # Each to its end: a letter that is under way can't be called back.
        for failure in await asyncio.gather(*lines, return_exceptions=True):
            if failure is not None:
                raise failure
        return outcomes

    async def _send_in_turn(
        self, mailer: Mailer, waiting: deque[UUID], outcomes: Outcomes, until: datetime
    ) -> None:
        while waiting and self.clock.now() < until:
            await self._send_next(mailer, waiting, outcomes)

    async def _send_next(self, mailer: Mailer, waiting: deque[UUID], outcomes: Outcomes) -> None:
        try:
            outcome = await self._send(mailer, waiting.popleft())
        except NotDelivered:
            # The others would fare no better now; the clock takes them up again.
            outcomes[MailOutcome.TRIED_IN_VAIN] += 1
            waiting.clear()
        else:
            if outcome is not None:
                outcomes[outcome] += 1

    async def _send(self, mailer: Mailer, mail_id: UUID) -> MailOutcome | None:
        try:
            mail = await self._claim(mail_id)
        except UnreadableMail:
            return await self._give_up(mail_id, "sealed with a key that is gone")
        if mail is None:
            return None
        letter = await self._write(mail)
        if letter is None:
            return MailOutcome.NOTHING_TO_SEND
        try:
            await mailer.send(letter)
        except Undeliverable as error:
            return await self._give_up(mail.id, error.reason)
        except NotDelivered as error:
            outcome = await self._put_off(mail, error.reason)
            if error.server_is_away and outcome is MailOutcome.TRIED_IN_VAIN:
                raise
            return outcome
        await self._forget(mail.id)
        return MailOutcome.SENT

    async def _claim(self, mail_id: UUID) -> Mail | None:
        # By itself: a mail that can't be written must not be the first in line for ever.
        now = self.clock.now()
        async with self.unit_of_work() as work:
            return await work.mails.claim(mail_id, now, until=now + _LEASE)

    async def _write(self, mail: Mail) -> Letter | None:
        async with self.unit_of_work() as work:
            letter = await self.write(work, mail)
            if letter is None:
                await work.mails.remove(mail.id)
            return letter

    async def _put_off(self, mail: Mail, reason: str) -> MailOutcome:
        now = self.clock.now()
        if now - mail.created_at > _PATIENCE:
            return await self._give_up(mail.id, reason)
        log.warning("mail_put_off", mail_id=str(mail.id), attempts=mail.attempts, reason=reason)
        async with self.unit_of_work() as work:
            await work.mails.postpone(mail.id, now + pause_after(mail.attempts))
        return MailOutcome.TRIED_IN_VAIN

    async def _give_up(self, mail_id: UUID, reason: str) -> MailOutcome:
        log.error("mail_given_up", mail_id=str(mail_id), reason=reason)
        await self._forget(mail_id)
        return MailOutcome.GIVEN_UP

    async def _forget(self, mail_id: UUID) -> None:
        async with self.unit_of_work() as work:
            await work.mails.remove(mail_id)


def pause_after(attempts: int) -> timedelta:
    """Twice as long each time, a day at most."""
    pause: timedelta = _FIRST_PAUSE * 2 ** min(attempts - 1, 20)
    return min(pause, _LONGEST_PAUSE)
