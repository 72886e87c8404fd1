"""What a replica decides alone while no answer comes from Valkey, and what it tells it later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from redis.exceptions import TimeoutError as RedisTimeout

from shared.errors import DependencyUnavailable, LimitReached
from shared.limits import admission
from shared.limits.admission import (
    Admission,
    Admissions,
    Window,
    minute_window,
    spend_window,
    streams_at_once,
)
from shared.limits.tier_admission import admit_by_tier
from shared.tiers import TIERS, Allowance
from shared.valkey import open_cache
from tests.support.chat import ada

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)
REQUESTS = minute_window("requests", 100, NOW)
ONE_STREAM = streams_at_once(1, NOW)
SCRIPTS = {
    name: getattr(admission, f"_{name.upper()}")._by_digest[1].encode()
    for name in ("admit", "refund", "settle", "renew")
}


class ScriptedLine:
    """Valkey as this replica sees it: it answers the same to everything, or says nothing."""

    def __init__(self) -> None:
        self.answer: Any = [0, 0, 1]
        self.is_silent = False
        self.asked: list[str] = []

    async def ask(self, command: bytes) -> Any:
        self.asked += [name for name, digest in SCRIPTS.items() if digest in command]
        if self.is_silent:
            raise RedisTimeout("No answer")
        return self.answer


@pytest.fixture
def line() -> ScriptedLine:
    return ScriptedLine()


@pytest.fixture
async def admissions(
    line: ScriptedLine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Admissions]:
    monkeypatch.setattr(admission, "_OPEN_SECONDS", 0.0)
    cache = open_cache("redis://127.0.0.1:1/0")
    made = Admissions(cache)
    monkeypatch.setattr(made, "_line", line)
    yield made
    await cache.aclose()


async def admit(
    admissions: Admissions, reservation: str, *windows: Window, **parts: Any
) -> Admission:
    return await admissions.admit(
        "ada",
        windows or [REQUESTS],
        reservation=reservation,
        claimed_tier="pro",
        **{"fallback_limit": 100, **parts},
    )


async def told(admissions: Admissions, line: ScriptedLine) -> list[str]:
    """What Valkey is told once it answers again."""
    line.is_silent = False
    line.asked.clear()
    await admissions.renew({})
    return line.asked


async def test_what_was_admitted_here_is_not_given_back_when_valkey_answers_again(
    admissions: Admissions, line: ScriptedLine
) -> None:
    line.is_silent = True
    assert (await admit(admissions, "1")).refused is None
    assert await told(admissions, line) == []


async def test_what_was_refused_here_is_given_back_should_valkey_have_admitted_it(
    admissions: Admissions, line: ScriptedLine
) -> None:
    async def spent() -> int:
        return 1_000

    line.is_silent = True
    answer = await admit(admissions, "1", spend_window("money", 1_000, NOW, 5), spent=spent)
    assert answer.refused is not None
    with pytest.raises(DependencyUnavailable):
        await admit(admissions, "2", fallback_limit=None)
    assert await told(admissions, line) == ["refund", "refund"]


async def test_more_of_a_request_is_not_another_one_of_the_minute(
    admissions: Admissions, line: ScriptedLine
) -> None:
    line.is_silent = True
    await admit(admissions, "1", fallback_limit=1)
    await admit(admissions, "1, more", fallback_limit=1, is_request=False)
    with pytest.raises(DependencyUnavailable):
        await admit(admissions, "2", fallback_limit=1)


async def test_more_of_a_request_is_none_by_its_tier_either(
    admissions: Admissions, line: ScriptedLine
) -> None:
    once = Allowance(model_classes=("openai.small",), requests_per_minute=1)
    tier = replace(TIERS["pro"], allowances={"openai": once})

    async def by_tier(**parts: Any) -> None:
        windows = [REQUESTS]
        await admit_by_tier(
            admissions, ada, tier, "openai", windows, now=NOW, reservation=uuid4(), **parts
        )

    line.is_silent = True
    await by_tier()
    await by_tier(is_request=False)
    with pytest.raises(DependencyUnavailable):
        await by_tier()
    line.is_silent, line.answer = False, [1, 0, 100]
    with pytest.raises(LimitReached):
        await by_tier()


async def test_what_runs_here_alone_counts_here(admissions: Admissions, line: ScriptedLine) -> None:
    await admit(admissions, "no stream")
    line.answer = [2, 1, 0]
    assert (await admit(admissions, "refused", streams=ONE_STREAM)).refused is not None
    line.is_silent = True
    assert (await admit(admissions, "1", streams=ONE_STREAM)).refused is None
    with pytest.raises(DependencyUnavailable):
        await admit(admissions, "2", streams=ONE_STREAM)


async def test_what_runs_by_valkeys_word_counts_here_too(
    admissions: Admissions, line: ScriptedLine
) -> None:
    await admit(admissions, "1", streams=ONE_STREAM)
    line.is_silent = True
    with pytest.raises(DependencyUnavailable):
        await admit(admissions, "2", streams=ONE_STREAM)


async def test_the_next_admission_that_is_answered_tells_what_could_not_be_told(
    admissions: Admissions, line: ScriptedLine
) -> None:
    line.is_silent = True
    await admissions.settle("ada", "1", [(REQUESTS, 1)])
    line.is_silent = False
    line.asked.clear()
    await admit(admissions, "2")
    for _ in range(5):
        await asyncio.sleep(0)
    assert line.asked == ["admit", "settle"]
    assert await told(admissions, line) == []
