"""A service's jobs run by the clock, whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from billiard.process import current_process
from celery import Celery
from prometheus_client import REGISTRY

from shared.errors import DependencyUnavailable
from shared.events.base import current_request_id, current_traceparent
from shared.messaging import schedule
from shared.messaging.celery_app import _Process
from shared.messaging.schedule import clock
from shared.messaging.subscriptions import Listen

OFTEN = timedelta(milliseconds=5)


@dataclass
class Wired:
    """A service that is open or closed."""

    actions: Any
    database: Any
    is_open: bool = False


def ticking(listen: Listen, wired: Wired) -> None:
    """Let the clock go until somebody ends the process."""

    @asynccontextmanager
    async def wire() -> AsyncIterator[Wired]:
        wired.is_open = True
        yield wired
        wired.is_open = False

    scheduler = clock(listen, wire)(app=Celery("chat", set_as_current=False), lazy=True)
    with pytest.raises(SystemExit) as ended:
        scheduler.tick()
    assert not ended.value.code


def end_the_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_a_job_opens_is_none_of_the_first_three_descriptors() -> None:
    listen, opened = Listen("chat"), []

    @listen.every(OFTEN)
    async def tidy(actions: Any) -> None:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        end_the_process()

    kept = os.dup(0)
    os.close(0)  # As Celery does.
    try:
        ticking(listen, Wired(None, None))
    finally:
        os.dup2(kept, 0)
        os.close(kept)

    assert opened[0] > 2
    os.close(opened[0])


_REHEARSAL = """
import contextlib, os
from shared.messaging.celery_app import _Process
from shared.messaging.subscriptions import Listen

@contextlib.asynccontextmanager
async def wire():
    yield None

os.close(0)
_Process(Listen("chat"), wire).rehearse()
print("alive")
"""


def test_a_beat_survives_its_rehearsal_without_a_standard_input() -> None:
    """In a process of its own, which libuv would end without a word that could be caught."""
    done = subprocess.run([sys.executable, "-c", _REHEARSAL], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_jobs_run_again_and_again_with_what_they_are_given() -> None:
    listen, seen = Listen("chat"), []

    @listen.every(OFTEN)
    async def tidy(actions: Any) -> None:
        seen.append(actions)
        if len(seen) == 3:
            end_the_process()

    @listen.every(OFTEN, given="database")
    async def forget(database: Any) -> None:
        assert database == "the database"

    wired = Wired("the verbs", "the database")
    ticking(listen, wired)
    assert seen == ["the verbs"] * 3
    assert not wired.is_open


@pytest.mark.parametrize("failure", [DependencyUnavailable("database"), RuntimeError("a bug")])
def test_a_job_that_fails_runs_again_and_holds_up_no_other(failure: Exception) -> None:
    listen, failed, ran = Listen("chat"), [], []

    @listen.every(OFTEN)
    async def fail(_actions: Any) -> None:
        failed.append(1)
        raise failure

    @listen.every(OFTEN)
    async def tidy(_actions: Any) -> None:
        ran.append(1)
        if len(failed) > 2 and len(ran) > 2:
            end_the_process()

    ticking(listen, Wired(None, None))
    assert len(failed) > 2


async def test_a_job_that_a_worker_runs_is_of_no_request() -> None:
    listen, seen = Listen("chat"), []

    @listen.every(timedelta(hours=1))
    async def tidy(_actions: Any) -> None:
        seen.append((current_request_id.get(), current_traceparent.get()))

    @asynccontextmanager
    async def wire() -> AsyncIterator[Wired]:
        yield Wired(None, None)

    process = _Process(listen, wire)
    await process._open()
    current_request_id.set("the last batch's")
    current_traceparent.set("00-the last batch's")
    [job] = listen.jobs.values()
    await process.job(job)
    assert seen == [(None, None)]


def test_a_job_that_takes_long_runs_once_at_a_time_and_holds_up_no_other() -> None:
    listen, begun, others = Listen("chat"), [], []

    @listen.every(OFTEN)
    async def take_long(_actions: Any) -> None:
        begun.append(1)
        await asyncio.sleep(0.1)

    @listen.every(OFTEN)
    async def tidy(_actions: Any) -> None:
        others.append(1)
        if len(others) == 5:
            end_the_process()

    ticking(listen, Wired(None, None))
    assert begun == [1]


def test_a_job_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_LAST_SECONDS", 0.05)
    listen, cancelled = Listen("chat"), []

    @listen.every(OFTEN)
    async def hang(_actions: Any) -> None:
        end_the_process()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    ticking(listen, Wired(None, None))
    assert cancelled == [1]


class CanNotBeWired(AbstractAsyncContextManager[Wired]):
    """A service that lacks a file."""

    async def __aenter__(self) -> Wired:
        raise OSError("no such file")

    async def __aexit__(self, *_error: object) -> None:
        """There is nothing to close."""


def test_a_clock_that_can_not_be_wired_says_so() -> None:
    scheduler = clock(Listen("chat"), CanNotBeWired)(
        app=Celery("chat", set_as_current=False), lazy=True
    )
    with pytest.raises(SystemExit) as ended:
        scheduler.tick()
    assert ended.value.code == 1
    # Celery's beat takes that for a wish to end well, and closes its scheduler.
    with pytest.raises(SystemExit) as closed:
        scheduler.close()
    assert closed.value.code == 1


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": "clocked", **labels}) or 0.0


def test_runs_are_counted_and_the_last_good_one_is_known() -> None:
    listen, runs = Listen("clocked"), []

    @listen.every(OFTEN)
    async def tidy(_actions: Any) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise DependencyUnavailable("database")
        if len(runs) == 2:
            raise ValueError("a bug")
        end_the_process()

    before = time.time()
    ticking(listen, Wired("the verbs", "the database"))
    failures = "companion_job_failures_total"
    assert counted(failures, job_name="tidy", reason="dependency_unavailable") == 1
    assert counted(failures, job_name="tidy", reason="bug") == 1
    assert counted("companion_job_seconds_count", job_name="tidy") == 3
    assert counted("companion_job_done_at_seconds", job_name="tidy") >= before
    assert counted("companion_job_interval_seconds", job_name="tidy") == OFTEN.total_seconds()


def test_a_job_that_is_due_seldom_runs_soon_after_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "_FIRST_RUNS_SECONDS", 0.01)
    listen, ran = Listen("chat"), []

    @listen.every(timedelta(hours=6))
    async def tidy(_actions: Any) -> None:
        ran.append(1)

    @listen.every(timedelta(seconds=0.2))
    async def end(_actions: Any) -> None:
        if ran or time.monotonic() > deadline:
            end_the_process()

    deadline = time.monotonic() + 3
    ticking(listen, Wired(None, None))
    assert ran == [1]


def test_a_job_that_is_due_seldom_runs_again_soon_after_a_failure_and_then_at_its_hours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "_FIRST_RUNS_SECONDS", 0.01)
    monkeypatch.setattr(schedule, "_AGAIN_SECONDS", 0.01)
    listen, ran = Listen("chat"), []

    @listen.every(timedelta(hours=6))
    async def tidy(_actions: Any) -> None:
        ran.append(1)
        if len(ran) < 3:
            raise DependencyUnavailable("database")

    @listen.every(timedelta(seconds=0.2))
    async def end(_actions: Any) -> None:
        if len(ran) >= 3 or time.monotonic() > deadline:
            end_the_process()

    deadline = time.monotonic() + 3
    ticking(listen, Wired(None, None))
    assert ran == [1] * 3


def test_the_first_runs_are_spread_over_a_minute() -> None:
    listen = Listen("chat")

    async def work(_actions: Any) -> None: ...

    for number, every in enumerate((timedelta(hours=6), timedelta(seconds=3), timedelta(hours=1))):
        work.__name__ = f"work_{number}"
        listen.every(every)(work)
    assert schedule.first_waits(list(listen.jobs.values())) == [20, 3, 60]


@pytest.mark.parametrize(("process_name", "times"), [("MainProcess", 1), ("Beat", 0)])
def test_a_clock_of_its_own_shows_its_metrics_and_one_beside_a_worker_leaves_it_to_that(
    process_name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_process(), "_name", process_name)
    listen, exposed = Listen("chat"), []

    @listen.every(OFTEN)
    async def tidy(_actions: Any) -> None:
        end_the_process()

    @asynccontextmanager
    async def wire() -> AsyncIterator[Wired]:
        yield Wired("the verbs", "the database")

    scheduler = clock(listen, wire, None, lambda: exposed.append(1))
    with pytest.raises(SystemExit):
        scheduler(app=Celery("chat", set_as_current=False), lazy=True).tick()
    assert len(exposed) == times
