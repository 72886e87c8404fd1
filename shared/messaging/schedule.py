"""What a service does by the clock, in the process that Celery keeps for its beat.

Celery's own beat sends each job as a message to the worker. For a job that mostly finds nothing to
do, that costs ten times what the job itself does, and while one takes long no event is handled.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop
from billiard.process import current_process
from celery.beat import Scheduler

from shared.errors import ExpectedFailure
from shared.messaging.subscriptions import Listen, ScheduledJob, Wire, WiredWorker
from shared.settings import stop_with_sentence
from shared.telemetry.metrics import JOB_DONE_AT, JOB_FAILURES, JOB_INTERVAL, JOB_SECONDS

log = structlog.get_logger(__name__)

# What runs when the process is to end may come to its own end; the next start does the rest.
_LAST_SECONDS = 5.0
_FAILED = 1
_RENEW_SECONDS = 10.0
# A job may be due every six hours, and its process may start more often than that.
_FIRST_RUNS_SECONDS = 60.0
# What failed is not left until its next turn.
_AGAIN_SECONDS = 300.0
_LAST_STANDARD_DESCRIPTOR = 2


def _nothing() -> None:
    """There is nobody to be told."""


def clock(
    listen: Listen,
    wire: Wire,
    ready_file: Path | None = None,
    expose_metrics: Callable[[], object] = _nothing,
) -> type[Scheduler]:
    """The class for Celery's setting `beat_scheduler`. A beat that runs by itself, not beside a
    worker, exposes its metrics, and renews the file for as long as it keeps its hours."""

    class Clock(Scheduler):
        """Keeps the service's hours instead of sending messages, until the process is to end."""

        _exit_code: Any = None

        def setup_schedule(self) -> None:
            """Nothing is remembered: every job is due within a minute of the start."""

        def tick(self, *_arguments: Any, **_named: Any) -> float:
            beside_worker = current_process().name == "Beat"
            file = None if beside_worker else ready_file
            try:
                if not beside_worker:
                    expose_metrics()
                keep_standard_descriptors()
                with stop_with_sentence():
                    uvloop.run(_keep_hours(listen, wire, file))
            except SystemExit as refused:
                self._exit_code = refused.code
                raise
            except Exception:
                log.exception("clock_stopped", service=listen.service)
                # The worker does not look after its beat, but somebody looks after the worker.
                if beside_worker:
                    os.kill(os.getppid(), signal.SIGTERM)
                self._exit_code = _FAILED
                raise SystemExit(_FAILED) from None
            raise SystemExit

        def close(self) -> None:
            """Celery calls this last, and takes whatever ends a `tick` for a wish to end well."""
            super().close()
            if self._exit_code:
                raise SystemExit(self._exit_code)

    return Clock


def keep_standard_descriptors() -> None:
    """Celery starts its beat with descriptor 0 closed. What is opened next would be given it, and
    libuv ends the process when one of the first three is closed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_DESCRIPTOR:
        pass
    os.close(descriptor)


async def _keep_hours(listen: Listen, wire: Wire, ready_file: Path | None) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with wire() as wired:
        jobs = list(listen.jobs.values())
        tasks = [
            asyncio.create_task(_repeat(_Counted(listen.service, job), wired, ending, after))
            for job, after in zip(jobs, first_waits(jobs), strict=True)
        ]
        if ready_file is not None:
            tasks.append(asyncio.create_task(_renew(ready_file, ending)))
        await ending.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await asyncio.gather(*tasks, return_exceptions=True)


class _Counted:
    """A job whose runs are counted and timed; what becomes of one is told, and no more."""

    def __init__(self, service: str, job: ScheduledJob) -> None:
        # Everything of this service: its own name for the job is enough.
        name = job.name.rpartition(".")[2]
        self.job = job
        self._seconds = JOB_SECONDS.labels(service, name)
        self._done_at = JOB_DONE_AT.labels(service, name)
        self._failures = partial(JOB_FAILURES.labels, service, name)
        JOB_INTERVAL.labels(service, name).set(job.every.total_seconds())

    async def run_in(self, wired: WiredWorker) -> bool:
        """Run it; answers whether it came to its end."""
        began = time.perf_counter()
        try:
            await self.job.run_in(wired)
        except ExpectedFailure as failure:
            self._failures(failure.code).inc()
            log.warning("job_failed", job=self.job.name, reason=failure.code)
        except Exception:
            self._failures("bug").inc()
            log.exception("job_failed", job=self.job.name)
        else:
            self._done_at.set(time.time())
            return True
        finally:
            self._seconds.observe(time.perf_counter() - began)
        return False


def first_waits(jobs: Sequence[ScheduledJob]) -> Sequence[float]:
    """Seconds until each runs for the first time: one after the other, but none later than it is
    due anyway."""
    apart = _FIRST_RUNS_SECONDS / max(1, len(jobs))
    return [
        min(job.every.total_seconds(), apart * number) for number, job in enumerate(jobs, start=1)
    ]


async def _repeat(
    counted: _Counted, wired: WiredWorker, ending: asyncio.Event, first_after: float
) -> None:
    """Run a job at its interval, sooner after a run that failed; never twice at once."""
    seconds = first_after
    while not await _is_set_within(ending, seconds):
        is_done = await counted.run_in(wired)
        seconds = counted.job.every.total_seconds()
        if not is_done:
            seconds = min(seconds, _AGAIN_SECONDS)


async def _renew(ready_file: Path, ending: asyncio.Event) -> None:
    while True:
        # Its file system is memory: this takes no time.
        ready_file.touch()  # noqa: ASYNC240
        if await _is_set_within(ending, _RENEW_SECONDS):
            return


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
