"""Which facts a service reacts to, which work it gives itself, and the queues that follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, Literal, Protocol, TypeVar

from kombu import Queue

from shared.db.database import Database
from shared.events import Event, Fact
from shared.messaging.broker import durable_queue
from shared.tiers import TIERS
from shared.values import dataclass

E = TypeVar("E", bound=Event)
T = TypeVar("T")
Handler = Callable[[Sequence[Fact[Any]], Any], Awaitable[None]]
Job = Callable[[Any], Awaitable[None]]
# What a handler or a job is called with: the service's verbs, or (for what belongs to the messaging
# itself) the service's database.
Given = Literal["actions", "database"]


class WiredWorker(Protocol):
    """What a worker needs of `wiring.wire(settings)`."""

    @property
    def actions(self) -> Any: ...

    @property
    def database(self) -> Database: ...


Wire = Callable[[], AbstractAsyncContextManager[WiredWorker]]


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """A batch as it was read at once, with what is told of any."""

    batch: T
    # The requests that its events came of.
    requests: Sequence[str]
    # The trace context that each of them was written in.
    traces: Sequence[str | None]
    # When the oldest was written, and of which tier it is.
    oldest: tuple[str, str]

    @property
    def count(self) -> int:
        """How many events it is."""
        return len(self.traces)


@dataclass(frozen=True, slots=True)
class Whole(Generic[T]):
    """Who takes batches at once, and reads them: the text of a JSON array of events. None from
    there says nothing against a batch; it goes the usual way."""

    read: Callable[[str], Told[T] | None]
    take: Callable[[T, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One event type that a service listens to."""

    event: type[Event]
    queue: str
    handler: Handler
    given: Given = "actions"
    whole: Whole[Any] | None = None


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """Work that a service gives itself by the clock. It must be idempotent: two clocks may run."""

    name: str
    every: timedelta
    run: Job
    given: Given = "actions"

    async def run_in(self, wired: WiredWorker) -> None:
        """Do it with what it is to be given."""
        await self.run(wired.database if self.given == "database" else wired.actions)


class Listen:
    """Collects a service's subscriptions and jobs.

    A queue named `usage` of billing becomes `billing.usage.free`, `billing.usage.pro` …: one per
    tier, so that a flood of one tier never delays another.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.subscriptions: dict[str, Subscription] = {}
        self.jobs: dict[str, ScheduledJob] = {}

    def to(
        self, event: type[E], *, queue: str, given: Given = "actions"
    ) -> Callable[
        [Callable[[Sequence[Fact[E]], Any], Awaitable[None]]],
        Callable[[Sequence[Fact[E]], Any], Awaitable[None]],
    ]:
        """Call the decorated handler with each batch of facts of this type.

        The handler must be idempotent by event id; it raises Unavailable to be called again.
        """

        def add(
            handler: Callable[[Sequence[Fact[E]], Any], Awaitable[None]],
        ) -> Callable[[Sequence[Fact[E]], Any], Awaitable[None]]:
            if event.type in self.subscriptions:
                raise ValueError(f"{self.service} listens to {event.type} twice")
            self.subscriptions[event.type] = Subscription(event, queue, handler, given)
            return handler

        return add

    def to_whole(
        self, event: type[Event], *, read: Callable[[str], Told[T] | None]
    ) -> Callable[[Callable[[T, Any], Awaitable[None]]], Callable[[T, Any], Awaitable[None]]]:
        """Offer each batch of a type that is listened to here first, read out of its own text.

        For the busiest streams: reading hundreds of events together costs a fraction of reading
        each. The handler is idempotent and takes all or nothing. What `read` is not sure of, and
        what the handler fails at, goes the usual way.
        """

        def add(take: Callable[[T, Any], Awaitable[None]]) -> Callable[[T, Any], Awaitable[None]]:
            known = self.subscriptions[event.type]
            self.subscriptions[event.type] = replace(known, whole=Whole(read, take))
            return take

        return add

    def every(self, interval: timedelta, *, given: Given = "actions") -> Callable[[Job], Job]:
        """Run the decorated job by the clock."""

        def add(job: Job) -> Job:
            name = f"{self.service}.jobs.{getattr(job, '__name__', 'job')}"
            self.jobs[name] = ScheduledJob(name, interval, job, given)
            return job

        return add

    @property
    def jobs_queue(self) -> str:
        return f"{self.service}.jobs"

    def queues(self, broker_url: str) -> list[Queue]:
        """Every queue of this service."""
        streams: dict[str, list[str]] = {}
        for subscription in self.subscriptions.values():
            for tier in TIERS:
                name = f"{self.service}.{subscription.queue}.{tier}"
                streams.setdefault(name, []).append(f"{subscription.event.type}.{tier}")
        if self.jobs:
            streams[self.jobs_queue] = [self.jobs_queue]
        return [durable_queue(name, keys, broker_url) for name, keys in streams.items()]
