"""What happens to a batch that arrives: read, handled, put aside, and only then acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from shared.db.database import Database
from shared.errors import ExpectedFailure
from shared.events import Event, Fact
from shared.events.base import current_request_id, current_traceparent
from shared.messaging import batch as batches
from shared.messaging.dead_events import PROCESS_LOST, DeadEvents
from shared.messaging.packed import unpacked
from shared.messaging.subscriptions import Listen, Subscription
from shared.telemetry import tracing
from shared.telemetry.metrics import (
    EVENT_AGE_SECONDS,
    EVENT_BATCH_SECONDS,
    EVENT_WAITS,
    EVENTS_HANDLED,
)
from shared.tiers import TIERS

if TYPE_CHECKING:
    from shared.telemetry.spans import Tracing

T = TypeVar("T")
log = structlog.get_logger(__name__)

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0
# A batch whose handling has ended its process this often is put aside unhandled.
_MOST_ATTEMPTS = 10
# Docker and the kubelet cut a line of 16 KB, and an id has up to 64 characters.
_REQUESTS_OF_LINE = 200


class Consumer:
    """Handles batches for one service.

    While a dependency is gone it waits, for as long as that takes: the message stays unacknowledged
    and nothing is put aside for a trouble that passes. What fails otherwise is handled one by one,
    so that one poisonous event does not take its batch with it, and then stored as dead.
    """

    def __init__(self, listen: Listen, actions: Any, database: Database) -> None:
        self._listen = listen
        self._actions = actions
        self._database = database
        self._dead = DeadEvents(listen.service, database)

    async def receive(
        self, type_: str, batch: Any, *, body: bytes | str | None = None, attempts: int = 0
    ) -> None:
        """Handle the batch of a message; returns once its effects or its burial are committed.

        `body`: the message's, where it was read here. `attempts`: how many processes have failed
        at it before.
        """
        of_no_request()
        if attempts >= _MOST_ATTEMPTS:
            await self._bury(type_, batch, PROCESS_LOST)
            return
        try:
            envelopes = batches.envelopes_of(batch, body)
        except batches.UnreadableBatch as error:
            await self._bury(type_, batch, f"unreadable_batch: {error}")
            return
        traces = [one.get("traceparent") if isinstance(one, dict) else None for one in envelopes]
        await self._timed(type_, traces, lambda: self._handle_each(type_, envelopes))
        self._tell_age(type_, *_oldest_of(envelopes))

    async def receive_unread(self, type_: str, body: bytes | str, *, attempts: int = 0) -> None:
        """The same for a message whose body nobody has read yet. Raises UnreadableBody."""
        of_no_request()
        body = unpacked(body)
        if attempts >= _MOST_ATTEMPTS or not await self._taken_whole(type_, body):
            await self.receive(type_, batches.read_body(body), body=body, attempts=attempts)

    async def _taken_whole(self, type_: str, body: bytes | str) -> bool:
        """Whether who takes batches whole, where somebody does, has taken this one."""
        subscription = self._listen.subscriptions[type_]
        whole, given = subscription.whole, self._given(subscription)
        events = None if whole is None else batches.events_text(body)
        if whole is None or events is None:
            return False
        try:
            told = whole.read(events.text)
            if told is None or told.count != events.number:
                return False
            take = partial(whole.take, told.batch, given)
            do = partial(self._patiently, type_, told.count, take)
            await self._timed(type_, told.traces, do)
        except Exception as reason:
            # Each of its events meets the same alone, and only who deserves it is put aside.
            log.warning("batch_not_taken_whole", type=type_, reason=type(reason).__name__)
            return False
        self._tell_handled(type_, told.count, told.requests)
        self._tell_age(type_, *told.oldest)
        return True

    async def _timed(
        self, type_: str, traces: Sequence[Any], do: Callable[[], Awaitable[None]]
    ) -> None:
        began = time.perf_counter()
        if tracing.active is None:
            await do()
        else:
            await self._traced(tracing.active, type_, traces, do)
        seconds = time.perf_counter() - began
        EVENT_BATCH_SECONDS.labels(self._listen.service, type_).observe(seconds)

    async def _traced(
        self, traced: Tracing, type_: str, traces: Sequence[Any], do: Callable[[], Awaitable[None]]
    ) -> None:
        """Within the trace of the request that the first event came of, with links to the others:
        what follows from them goes on in it."""
        about: tracing.Attributes = {
            "messaging.batch.message_count": len(traces),
            "companion.type": type_,
        }
        span = traced.begin_batch(f"handle {type_}", tracing.Kind.CONSUMER, traces, about)
        current_traceparent.set(span.traceparent)
        failed: str | None = "left"
        try:
            await do()
            failed = None
        finally:
            span.end(failed=failed)

    async def put_aside(self, type_: str, body: bytes | str, message_id: str | None) -> None:
        """Bury a message whose body could not be read at all."""
        of_no_request()
        with suppress(batches.UnreadableBody):
            body = unpacked(body)
        kept = {"headers": ascii({"id": message_id, "task": type_}), "body": ascii(body)}
        await self._bury(type_, kept, "undecodable")

    async def _handle_each(self, type_: str, envelopes: Sequence[Any]) -> None:
        facts, unreadable = batches.read(envelopes)
        for letter in unreadable:
            await self._bury(type_, letter.body, f"unreadable_event: {letter.reason}")
        strangers = [fact for fact in facts if fact.event.type != type_]
        for fact in strangers:
            await self._bury(type_, fact.to_wire(), f"wrong_type: {fact.event.type}")
        wanted = [fact for fact in facts if fact.event.type == type_]
        if wanted:
            await self._handle(type_, wanted)

    async def _handle(self, type_: str, facts: Sequence[Fact[Event]]) -> None:
        subscription = self._listen.subscriptions[type_]
        given = self._given(subscription)

        async def handle() -> None:
            current_request_id.set(facts[0].request_id)
            if tracing.active is None:
                current_traceparent.set(facts[0].traceparent)
            await subscription.handler(facts, given)

        try:
            await self._patiently(type_, len(facts), handle)
        except Exception as failure:
            await self._divide(type_, facts, failure)
        else:
            requests = [fact.request_id for fact in facts if fact.request_id]
            self._tell_handled(type_, len(facts), requests)

    async def _patiently(self, type_: str, count: int, do: Callable[[], Awaitable[T]]) -> T:
        """Do it again for as long as a dependency is gone; any other failure is the caller's."""
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await do()
            except ExpectedFailure as failure:
                if not failure.retryable:
                    raise
                EVENT_WAITS.labels(self._listen.service, type_, failure.code).inc()
                log.warning("event_waits", type=type_, reason=failure.code, count=count)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    def _tell_handled(self, type_: str, count: int, requests: Sequence[str]) -> None:
        EVENTS_HANDLED.labels(self._listen.service, type_).inc(count)
        first, others = requests[:_REQUESTS_OF_LINE], requests[_REQUESTS_OF_LINE:]
        log.info("events_handled", type=type_, count=count, requests=first)
        while others:
            first, others = others[:_REQUESTS_OF_LINE], others[_REQUESTS_OF_LINE:]
            log.info("events_handled", type=type_, requests=first)

    def _given(self, subscription: Subscription) -> Any:
        return self._database if subscription.given == "database" else self._actions

    def _tell_age(self, type_: str, written_at: object, tier: object) -> None:
        """How old the batch's oldest event is by now; what can't be read says nothing."""
        try:
            age = (datetime.now(UTC) - datetime.fromisoformat(written_at)).total_seconds()  # type: ignore[arg-type]
        except (ValueError, TypeError):
            return
        # A label for each thing that somebody may write there would be without bounds.
        known = tier if isinstance(tier, str) and tier in TIERS else "none"
        EVENT_AGE_SECONDS.labels(self._listen.service, type_, known).observe(max(0.0, age))

    async def _divide(self, type_: str, facts: Sequence[Fact[Event]], failure: Exception) -> None:
        if len(facts) > 1:
            for fact in facts:
                await self._handle(type_, [fact])
            return
        log.error("event_failed", type=type_, event_id=str(facts[0].id), exc_info=failure)
        await self._bury(type_, facts[0].to_wire(), f"handler_failed: {type(failure).__name__}")

    async def _bury(self, type_: str, body: Any, reason: str) -> None:
        async def store() -> None:
            await self._dead.store(type_, body, reason)

        await self._patiently(type_, 1, store)


def _oldest_of(envelopes: Sequence[Any]) -> tuple[Any, Any]:
    """When the oldest of them was written, and of which tier it is, as they say."""
    named = [one for one in envelopes if isinstance(one, dict) and "time" in one]
    if not named:
        return None, None
    oldest = min(named, key=lambda one: str(one["time"]))
    return oldest["time"], oldest.get("tier")


def of_no_request() -> None:
    """What follows comes of no request, until it says so itself."""
    # All that a process handles runs in one context, so that what one sets is there for the next.
    current_request_id.set(None)
    current_traceparent.set(None)
