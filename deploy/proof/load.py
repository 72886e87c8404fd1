"""A steady load: turns begin at an even pace, whatever becomes of those before."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import field

import httpx

from deploy.proof.answers import Attempt, Kind
from deploy.proof.people import SHARES, Person
from deploy.proof.ways import Question, Way, attempt
from shared.values import dataclass

WAYS: Sequence[Way] = ("live", "whole", "live", "whole", "live", "spoken", "whole", "live")
PACE = "[[sim:chunks=24,delay_ms=100]] "
"""So that an answer takes more than two seconds and a fault meets many on their way."""

MOST_AT_ONCE = 150
_TRIES = 20
_PAUSE_SECONDS, _LONGER, _LONGEST_PAUSE_SECONDS = 1.0, 1.3, 6.0


@dataclass(slots=True)
class Load:
    """Asks, tries again as clients are told to, and notes every attempt."""

    client: httpx.AsyncClient
    people: Sequence[Person]
    per_second: float
    attempts: list[Attempt] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    left_out: int = 0
    """Turns that found nobody free to ask: too much was still on its way."""
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def running(self) -> int:
        """Turns on their way now."""
        return len(self._running)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """New turns begin for the length of the block; those that have begun are awaited."""
        beginning = asyncio.create_task(self._begin_turns())
        try:
            yield
        finally:
            beginning.cancel()
            with suppress(asyncio.CancelledError):
                await beginning
            await asyncio.gather(*self._running)

    async def _begin_turns(self) -> None:
        tiers = _in_turn()
        at = {tier: itertools.cycle([p for p in self.people if p.tier == tier]) for tier in SHARES}
        sizes = {tier: sum(p.tier == tier for p in self.people) for tier in SHARES}
        due = time.monotonic()
        while True:
            tier = next(tiers)
            self._begin(next(self._numbers), at[tier], sizes[tier])
            due += 1 / self.per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _begin(self, number: int, people: Iterator[Person], most: int) -> None:
        way = WAYS[number % len(WAYS)]
        for person in itertools.islice(people, most):
            if len(self._running) >= MOST_AT_ONCE:
                break
            if way == "spoken" or person.free_sessions:
                session = "" if way == "spoken" else person.free_sessions.pop()
                mark = f"mark{number}x{secrets.token_hex(3)}"
                key = secrets.token_hex(12)
                question = Question(number, way, person, mark, key, session, PACE)
                task = asyncio.create_task(self._turn(question))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                return
        self.left_out += 1

    async def _turn(self, question: Question) -> None:
        """Try again with the same idempotency key until there is an answer, or a last word."""
        for tries in range(_TRIES):
            told = await attempt(self.client, question)
            self.attempts.append(told)
            if not _worth_another(told):
                break
            await asyncio.sleep(pause_after(told, tries))
        else:
            self.given_up.append(question.number)
        if question.session_id:
            question.person.free_sessions.insert(0, question.session_id)


def pause_after(told: Attempt, tries: int) -> float:
    """As clients should: what they are told to wait, and longer each time."""
    asked = told.retry_after if told.retry_after is not None else _PAUSE_SECONDS
    return min(max(asked, _PAUSE_SECONDS) * _LONGER**tries, _LONGEST_PAUSE_SECONDS)


def _worth_another(told: Attempt) -> bool:
    if told.kind in (Kind.CUT, Kind.NO_ANSWER, Kind.HUNG):
        return True
    if told.is_last_word:
        return False
    return told.kind is Kind.REFUSED and (told.waits or told.status in (429, 502, 503, 504))


def _in_turn() -> Iterator[str]:
    """Tiers by their shares, evenly mixed."""
    owed = dict.fromkeys(SHARES, 0.0)
    while True:
        for tier, share in SHARES.items():
            owed[tier] += share
        tier = max(owed, key=lambda name: owed[name])
        owed[tier] -= 1.0
        yield tier
