"""Work beside what a process is for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog
from structlog.testing import capture_logs

from shared import background
from shared.background import act_on_each, attempt, repeated, repeated_later, running_beside
from shared.errors import DependencyUnavailable


@pytest.fixture(autouse=True)
def _log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # One that was used before keeps the processors of that time.
    monkeypatch.setattr(background, "log", structlog.get_logger())


async def test_a_work_that_misses_its_first_cancellation_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "_SAID_AGAIN_SECONDS", 0.01)
    missed = 0

    async def work() -> None:
        nonlocal missed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if missed:
                    raise
                missed += 1

    async with asyncio.timeout(5), running_beside(work()):
        await asyncio.sleep(0)
    assert missed == 1


async def test_a_work_that_fails_is_told_at_once() -> None:
    async def listen() -> None:
        raise ValueError("broken")

    with capture_logs() as logs:
        async with running_beside(listen()):
            await asyncio.sleep(0.01)
            ((event, level),) = [(line["event"], line["log_level"]) for line in logs]
    assert (event, level) == ("background_work_failed", "error")
    assert "listen" in logs[0]["work"]


async def test_what_is_repeated_goes_on_whatever_became_of_it() -> None:
    tries: list[Exception | None] = [DependencyUnavailable("database"), ValueError("bug"), None]
    done = asyncio.Event()

    async def look() -> None:
        failure = tries.pop(0) if tries else None
        if failure is not None:
            raise failure
        done.set()

    with capture_logs() as logs:
        async with asyncio.timeout(5), running_beside(repeated(look, pause_seconds=0)):
            await done.wait()
    assert [line["event"] for line in logs] == ["background_work_waits", "background_work_failed"]
    assert all("look" in line["work"] for line in logs)


async def test_news_that_cannot_be_acted_on_is_not_the_last() -> None:
    acted: list[int] = []

    async def heard() -> AsyncIterator[int]:
        for number in (1, 0, 2):
            yield number

    async def act(number: int) -> None:
        acted.append(1 // number * number)

    with capture_logs() as logs:
        await act_on_each(heard(), act)
    assert acted == [1, 0]
    assert [(line["event"], line["by"]) for line in logs] == [("news_failed", "act")]


async def test_what_was_just_done_is_repeated_after_a_pause() -> None:
    async def look() -> None:
        raise AssertionError("at once")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await repeated_later(look, pause_seconds=60)


async def test_an_attempt_that_fails_is_only_told() -> None:
    async def look() -> None:
        raise ValueError("bug")

    with capture_logs() as logs:
        await attempt(look)
    assert [line["event"] for line in logs] == ["background_work_failed"]
