"""What a service does by the clock, in the process that Celery keeps for its beat.

Celery's own beat sends each job as a message to the worker. For a job that mostly finds nothing to
do, that costs ten times what the job itself does, and while one takes long no event is handled.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog
import uvloop
from billiard.process import current_process
from celery.beat import Scheduler

from shared.errors import ExpectedFailure
from shared.messaging.subscriptions import Listen, ScheduledJob, Wire, WiredWorker

log = structlog.get_logger(__name__)

# What runs when the process is to end may come to its own end; the next start does the rest.
_LAST_SECONDS = 5.0
_FAILED = 1


def clock(listen: Listen, wire: Wire) -> type[Scheduler]:
    """The class for Celery's setting `beat_scheduler`."""

    class Clock(Scheduler):
        """Keeps the service's hours instead of sending messages, until the process is to end."""

        def setup_schedule(self) -> None:
            """Nothing is remembered: every job is due one interval after the start."""

        def tick(self, *_arguments: Any, **_named: Any) -> float:
            try:
                uvloop.run(_keep_hours(listen.jobs.values(), wire))
            except Exception:
                log.exception("clock_stopped", service=listen.service)
                # The worker does not look after its beat, but somebody looks after the worker.
                if current_process().name == "Beat":
                    os.kill(os.getppid(), signal.SIGTERM)
                raise SystemExit(_FAILED) from None
            raise SystemExit

    return Clock


async def _keep_hours(jobs: Iterable[ScheduledJob], wire: Wire) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with wire() as wired:
        tasks = [asyncio.create_task(_repeat(job, wired, ending)) for job in jobs]
        await ending.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(job: ScheduledJob, wired: WiredWorker, ending: asyncio.Event) -> None:
    """Run a job at its interval, never twice at once; what becomes of it is told, and no more."""
    while not await _is_set_within(ending, job.every.total_seconds()):
        try:
            await job.run_in(wired)
        except ExpectedFailure as failure:
            log.warning("job_failed", job=job.name, reason=failure.code)
        except Exception:
            log.exception("job_failed", job=job.name)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
