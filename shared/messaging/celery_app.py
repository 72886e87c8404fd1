"""The worker process of a service: `create_celery(...)`, its queues, and the loop inside it."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop
from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import (
    beat_init,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
)
from kombu import Queue

from shared.messaging.batch import UnreadableBody
from shared.messaging.broker import (
    JOB_TASK_OPTIONS,
    celery_settings,
    event_task_options,
    is_rabbitmq,
)
from shared.messaging.consumer import Consumer, of_no_request
from shared.messaging.packed import leave_packed
from shared.messaging.pool import widen_pipes
from shared.messaging.schedule import clock, keep_standard_descriptors
from shared.messaging.subscriptions import Listen, ScheduledJob, Wire, WiredWorker
from shared.messaging.unreadable import (
    PutAside,
    PutAsideOnValkey,
    careful_consumer,
    put_aside_on_rabbitmq,
)
from shared.settings import (
    CommonSettings,
    SettingsRefused,
    port_of,
    report_unknown_settings,
    service_database_url,
    stop_with_sentence,
)
from shared.telemetry import tracing
from shared.telemetry.exposition import expose_metrics
from shared.telemetry.logging import configure_logging
from shared.telemetry.metrics import WORKER_CHILDREN
from shared.tiers import TIERS

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 1.0


def create_celery(listen: Listen, settings: CommonSettings, wire: Wire) -> Celery:
    """The Celery application of one service: a task per event type, a task per job."""
    configure_logging(f"{listen.service}-worker", settings.log_level)
    # With somebody there, Celery leaves the levels as they are: its own is that of all libraries.
    setup_logging.connect(_keep_logging, weak=False)
    report_unknown_settings()
    broker_url = settings.broker_url.get_secret_value()
    widen_pipes()
    app = Celery(listen.service)
    app.conf.update(celery_settings(broker_url))
    put_aside = _put_aside(listen.service, settings)
    app.conf.worker_consumer = careful_consumer(
        put_aside, left_unread=listen.subscriptions, ready_file=settings.ready_file
    )
    app.conf.task_queues = queues = _taken(listen.queues(broker_url), settings.worker_tier)
    # Celery can't route without one, not even a task that names its exchange when sent again.
    app.conf.task_default_queue = listen.jobs_queue if listen.jobs else queues[0].name
    expose = partial(_expose_metrics, settings.metrics_host, settings.metrics_port)
    app.conf.beat_scheduler = clock(listen, wire, settings.ready_file, expose)
    # Before it has a broker: what waits is alive, and shows that it waits.
    worker_init.connect(lambda **_signal: expose(), weak=False)
    process = _Process(listen, wire)
    task: Any = app.task
    for type_ in listen.subscriptions:
        options = event_task_options(broker_url)
        handle = _event_task(process, type_, rejects=is_rabbitmq(broker_url))
        task(name=type_, bind=True, shared=False, **options)(handle)
    # Nobody sends these but who is being replaced by this version, and an operator.
    for job in listen.jobs.values():
        task(name=job.name, shared=False, **JOB_TASK_OPTIONS)(_job_task(process, job))
    worker_init.connect(lambda **_signal: leave_packed(), weak=False)
    worker_init.connect(process.rehearse, weak=False)
    worker_init.connect(process.expect_children, weak=False)
    beat_init.connect(process.rehearse, weak=False)
    worker_process_init.connect(process.start, weak=False)
    worker_process_shutdown.connect(process.stop, weak=False)
    if settings.ready_file is not None:
        worker_ready.connect(lambda **_signal: _say_ready(settings.ready_file), weak=False)
    return app


def _keep_logging(**_signal: object) -> None:
    """`configure_logging` has said it all."""


def _expose_metrics(host: str, port: int) -> None:
    with stop_with_sentence(), port_of("METRICS_PORT", host, port):
        expose_metrics(host, port)


def _taken(queues: Sequence[Queue], tier: str | None) -> list[Queue]:
    """The queues that a worker takes: all, or those of one tier, with what belongs to none.

    Raises SettingsRefused for what is no tier, whose worker would take everybody's.
    """
    if tier is not None and tier not in TIERS:
        raise SettingsRefused(f"WORKER_TIER names no tier; there are: {', '.join(TIERS)}.")
    others = tuple(f".{name}" for name in TIERS if tier and name != tier)
    return [queue for queue in queues if not queue.name.endswith(others)]


def _put_aside(service: str, settings: CommonSettings) -> PutAside:
    if is_rabbitmq(settings.broker_url.get_secret_value()):
        return put_aside_on_rabbitmq
    server_url = settings.database_url.get_secret_value()
    return PutAsideOnValkey(service_database_url(server_url, service))


class _Process:
    """One worker child: an event loop, and the service wired into it."""

    def __init__(self, listen: Listen, wire: Wire) -> None:
        self._listen = listen
        self._wire = wire
        self._runner: asyncio.Runner | None = None
        self._traced = ExitStack()
        self._context: AbstractAsyncContextManager[WiredWorker]
        self._wired: WiredWorker
        self.consumer: Consumer

    def rehearse(self, **_signal: Any) -> None:
        """Wire once before there are children, which reaches nobody: what can't be used of the
        settings stops the process, where it would stop one child after the other."""
        keep_standard_descriptors()
        with stop_with_sentence(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            tracing.check_settings()
            runner.run(_wire_and_let_go(self._wire))

    def expect_children(self, **_signal: Any) -> None:
        """The parent counts as none: without any child the number is 0, and not absent."""
        WORKER_CHILDREN.labels(self._listen.service).set(0)

    def start(self, **_signal: Any) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        try:
            self._traced.enter_context(tracing.traced(f"{self._listen.service}-worker"))
            self._runner.run(self._open())
            # All that is there now stays: the collector need not walk through it while it works
            # through batches, whose objects are many and short-lived.
            gc.collect()
            gc.freeze()
            WORKER_CHILDREN.labels(self._listen.service).set(1)
        except Exception:
            # Celery would only log this, and every task of this child would fail.
            log.exception("worker_not_wired")
            time.sleep(_PAUSE_SECONDS)
            sys.exit(1)

    async def _open(self) -> None:
        self._context = self._wire()
        self._wired = await self._context.__aenter__()
        self.consumer = Consumer(self._listen, self._wired.actions, self._wired.database)

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._runner is None:  # a pool without children, such as `solo`
            self.start()
        assert self._runner is not None
        self._runner.run(work())

    async def job(self, job: ScheduledJob) -> None:
        of_no_request()
        await job.run_in(self._wired)

    def stop(self, **_signal: Any) -> None:
        if self._runner is not None:
            self._runner.run(self._context.__aexit__(None, None, None))
            self._runner.close()
            self._runner = None
            self._traced.close()


async def _wire_and_let_go(wire: Wire) -> None:
    async with wire():
        pass


def _say_ready(path: Path | None) -> None:
    if path is not None:
        path.touch()


def _event_task(process: _Process, type_: str, *, rejects: bool) -> Callable[..., None]:
    """`rejects`: whether the broker keeps a message that is rejected."""

    def handle_event(
        task: Task[Any, Any], *_unknown: Any, batch: Any = None, unread: Any = None, **_unnamed: Any
    ) -> None:
        # Counted by Celery where it sends the task again, by RabbitMQ's quorum queues otherwise.
        attempts = int(task.request.retries or task.request.get("x-delivery-count") or 0)
        if unread is None:
            process.run(lambda: process.consumer.receive(type_, batch, attempts=attempts))
            return
        try:
            process.run(lambda: process.consumer.receive_unread(type_, unread, attempts=attempts))
        except UnreadableBody as error:
            if rejects:
                raise Reject("undecodable", requeue=False) from error
            process.run(lambda: process.consumer.put_aside(type_, unread, task.request.id))

    return handle_event


def _job_task(process: _Process, job: ScheduledJob) -> Callable[..., None]:
    def run_job(**_unknown: Any) -> None:
        process.run(lambda: process.job(job))

    return run_job
