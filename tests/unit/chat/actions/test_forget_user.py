"""A deleted user's running turns are ended; their holds wait for settlement."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

from services.chat.actions.forget_keys import ForgetKeys
from services.chat.actions.forget_user import ForgetUser
from services.chat.actions.learn_keys import LearnKeys
from services.chat.domain.known_key import KnownKey, RevokedKey
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.support.chat import NOON, StoppedClock, ada, grace
from tests.support.erasure import MemoryForgettingWork
from tests.support.revocations import HeardRevocations

ERASURE = ErasureId(uuid4())


@dataclass
class Traces:
    providers: set[str] = field(default_factory=set)

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return 0

    async def running(self, user_id: UserId) -> Collection[str]:
        return self.providers


async def test_running_turns_are_ended_until_they_are_settled() -> None:
    work, traces, news, clock = (
        MemoryForgettingWork(),
        Traces({"openai"}),
        HeardRevocations(),
        StoppedClock(),
    )
    work.traces = traces
    forget = ForgetUser(work.begin, clock, news)  # type: ignore[arg-type]

    await forget.begin([(ada, ERASURE)])
    clock.forward(timedelta(seconds=5))
    await forget.go_on()

    assert [(r.user_id, r.provider, r.at - NOON) for r in news.said] == [
        (ada, "openai", timedelta(0)),
        (ada, "openai", timedelta(seconds=5)),
    ]
    assert work.told == []
    traces.providers.clear()
    await forget.go_on()
    assert work.told == [ada]


class KnownKeys:
    def __init__(self) -> None:
        self.of: list[UserId] = []

    async def remember(self, keys: list[KnownKey]) -> None:
        self.of += [key.user_id for key in keys]

    async def forget(self, keys: list[RevokedKey]) -> None:
        self.of += [key.user_id for key in keys]


async def test_late_news_of_keys_brings_nothing_back_but_still_ends_what_runs() -> None:
    work, news = MemoryForgettingWork(), HeardRevocations()
    work.traces, work.known_keys = Traces(), KnownKeys()  # type: ignore[attr-defined]
    forget = ForgetUser(work.begin, StoppedClock(), news)  # type: ignore[arg-type]
    await forget.begin([(ada, ERASURE)])

    known = [KnownKey(user, "openai", 1, "valid", ()) for user in (ada, grace)]
    await LearnKeys(work.begin)(known)  # type: ignore[arg-type]
    revoked = [RevokedKey(user, "openai", 1, NOON) for user in (ada, grace)]
    await ForgetKeys(work.begin, news)(revoked)  # type: ignore[arg-type]

    assert work.known_keys.of == [grace, grace]  # type: ignore[attr-defined]
    assert [r.user_id for r in news.said] == [ada, grace]
