"""Work beside what a process is for."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from shared import background
from shared.background import running_beside


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
