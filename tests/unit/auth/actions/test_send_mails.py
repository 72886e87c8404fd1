"""Sending what waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.auth.actions.send_mails import MailOutcome, SendMails, pause_after
from services.auth.actions.write_letter import WriteLetter
from services.auth.domain.letter import Letter, NotDelivered, Undeliverable
from services.auth.domain.mail import Mail, MailKind
from tests.support.auth import Memory, StoppedClock, a_user
from tests.support.auth_mails import KeptLetters

ADA = a_user("ada")


class Post:
    def __init__(self, *failures: Exception, mails: int = 1) -> None:
        self.clock = StoppedClock()
        self.memory = Memory().keep(ADA)
        self.memory.mails += [
            Mail.about(MailKind.PASSWORD_CHANGED, ADA, self.clock.now()) for _ in range(mails)
        ]
        self.mailer = KeptLetters(failures=list(failures))
        write = WriteLetter("https://companion.example.com", 5, self.clock)
        self.send = SendMails(self.memory.work, self.mailer, write, self.clock)


async def test_a_mail_is_sent_once_however_often_it_is_told_of() -> None:
    post = Post()
    [mail] = post.memory.mails
    assert await post.send([mail.id, mail.id]) == {MailOutcome.SENT: 1}
    assert await post.send([mail.id]) == {}
    assert await post.send.due() == {}
    assert len(post.mailer.letters) == 1


async def test_without_a_mailer_mails_wait_untouched() -> None:
    post = Post()
    [mail] = post.memory.mails
    idle = SendMails(post.memory.work, None, post.send.write, post.clock)
    assert await idle([mail.id]) == await idle.due() == {}
    assert post.memory.mails == [mail]
    await post.send.due()
    assert len(post.mailer.letters) == 1


async def test_a_failure_is_tried_again_later_and_later() -> None:
    post = Post(NotDelivered("busy"), NotDelivered("busy"))
    for minutes in (0, 1, 2):
        assert await post.send.due() == {
            MailOutcome.SENT if minutes == 2 else MailOutcome.TRIED_IN_VAIN: 1
        }
        post.clock.forward(timedelta(minutes=minutes + 1, seconds=-1))
        assert await post.send.due() == {}
        post.clock.forward(timedelta(seconds=1))
    assert len(post.mailer.letters) == 1


def test_no_pause_is_longer_than_a_day() -> None:
    assert [pause_after(n) for n in (1, 2, 3)] == [timedelta(minutes=n) for n in (1, 2, 4)]
    assert pause_after(1000) == timedelta(days=1)


async def test_what_the_server_refuses_for_good_is_given_up() -> None:
    post = Post(Undeliverable("no such mailbox"))
    assert await post.send.due() == {MailOutcome.GIVEN_UP: 1}
    assert post.memory.mails == []


async def test_after_three_days_of_failures_it_is_given_up() -> None:
    post = Post(*(NotDelivered("busy") for _ in range(100)))
    tries = 0
    while post.memory.mails:
        outcomes = await post.send.due()
        tries += outcomes[MailOutcome.TRIED_IN_VAIN] + outcomes[MailOutcome.GIVEN_UP]
        post.clock.forward(timedelta(hours=1))
    assert 5 < tries < 20
    assert post.mailer.letters == []


async def test_a_server_that_is_away_is_not_asked_for_each_mail() -> None:
    post = Post(NotDelivered("ConnectionRefusedError", server_is_away=True), mails=3)
    assert await post.send.due() == {MailOutcome.TRIED_IN_VAIN: 1}
    assert post.mailer.letters == []
    assert await post.send.due() == {MailOutcome.SENT: 2}


class SlowPost(KeptLetters):
    """A server that takes a while, and how many letters it was handed at a time."""

    def __init__(self, *, clock: StoppedClock, each: timedelta = timedelta(0)) -> None:
        super().__init__()
        self.clock, self.each = clock, each
        self.under_way = 0
        self.at_a_time: list[int] = []

    async def send(self, letter: Letter) -> None:
        self.under_way += 1
        self.at_a_time.append(self.under_way)
        for _ in range(10):
            await asyncio.sleep(0)
        self.clock.forward(self.each)
        self.under_way -= 1
        await super().send(letter)


async def test_many_are_sent_a_few_at_a_time() -> None:
    post = Post(mails=12)
    slow = SlowPost(clock=post.clock)
    sending = SendMails(post.memory.work, slow, post.send.write, post.clock)
    assert await sending([mail.id for mail in post.memory.mails]) == {MailOutcome.SENT: 12}
    # The first alone shows whether the server is there at all.
    assert slow.at_a_time[:2] == [1, 1]
    assert max(slow.at_a_time) == 3


async def test_a_slow_server_does_not_keep_the_worker_from_all_else() -> None:
    post = Post(mails=50)
    slow = SlowPost(clock=post.clock, each=timedelta(seconds=15))
    sending = SendMails(post.memory.work, slow, post.send.write, post.clock)
    outcomes = await sending([mail.id for mail in post.memory.mails])
    assert 1 < outcomes[MailOutcome.SENT] < 15
    # What is left waits for the clock, untried.
    assert {mail.attempts for mail in post.memory.mails} == {0}
    assert len(post.memory.mails) == 50 - outcomes[MailOutcome.SENT]


async def test_what_is_under_way_ends_although_another_fails() -> None:
    class Broken(SlowPost):
        async def send(self, letter: Letter) -> None:
            if len(self.at_a_time) == 2:
                self.at_a_time.append(0)
                raise ZeroDivisionError
            await super().send(letter)

    post = Post(mails=4)
    broken = Broken(clock=post.clock)
    sending = SendMails(post.memory.work, broken, post.send.write, post.clock)
    with pytest.raises(ZeroDivisionError):
        await sending.due()
    assert (broken.under_way, len(broken.letters)) == (0, 3)
    assert len(post.memory.mails) == 1


@pytest.mark.parametrize("crash_after", ["claim", "send"])
async def test_after_a_crash_the_mail_goes_out_at_the_end_of_the_lease(crash_after: str) -> None:
    class Crash(Exception):
        pass

    class CrashingMailer(KeptLetters):
        async def send(self, letter: object) -> None:
            if crash_after == "send":
                await super().send(letter)  # type: ignore[arg-type]
            raise Crash

    post = Post()
    crashing = SendMails(post.memory.work, CrashingMailer(), post.send.write, post.clock)
    with pytest.raises(Crash):
        await crashing.due()
    assert await post.send.due() == {}
    post.clock.forward(timedelta(minutes=5))
    assert await post.send.due() == {MailOutcome.SENT: 1}


async def test_a_mail_that_can_not_be_written_does_not_hold_up_the_others() -> None:
    post = Post()
    broken = Mail.make(MailKind.VERIFY_EMAIL, ADA.email, post.clock.now(), user_id="nonsense")
    post.memory.mails.insert(0, broken)
    with pytest.raises(ValueError):
        await post.send.due()
    assert await post.send.due() == {MailOutcome.SENT: 1}
