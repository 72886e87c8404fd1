"""A deleted user's running speech is ended; its hold waits for settlement."""

from __future__ import annotations

from uuid import uuid4

from services.voice.actions.forget_user import ForgetUser
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.support.erasure import MemoryForgettingWork
from tests.support.revocations import HeardRevocations
from tests.support.voice import NOON, StoppedClock, a_user

ERASURE = ErasureId(uuid4())


class Traces:
    def __init__(self) -> None:
        self.running = True

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return 0

    async def is_running(self, user_id: UserId) -> bool:
        return self.running


class Nothing:
    async def erase(self, user_id: UserId, *, most: int) -> int:
        return 0


async def test_a_running_speech_is_ended_and_then_forgotten() -> None:
    work, news, ada = (
        MemoryForgettingWork(
            traces=Traces(), kept_speeches=Nothing(), own_settings=Nothing(), clones=Nothing()
        ),
        HeardRevocations(),
        a_user(),
    )
    forget = ForgetUser(work.begin, StoppedClock(), news)

    await forget.begin([(ada, ERASURE)])
    assert [(r.user_id, r.provider, r.at) for r in news.said] == [(ada, "elevenlabs", NOON)]
    assert work.told == []

    work.traces.running = False
    await forget.go_on()
    assert work.told == [ada]
