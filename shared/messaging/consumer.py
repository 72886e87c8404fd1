"""What happens to a batch that arrives: read, handled, put aside, and only then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from shared.db.database import Database
from shared.errors import ExpectedFailure
from shared.events import Event, Fact
from shared.events.base import current_request_id, current_traceparent
from shared.messaging import batch as batches
from shared.messaging.dead_events import DeadEvents
from shared.messaging.subscriptions import Listen
from shared.telemetry.metrics import EVENTS_HANDLED

log = structlog.get_logger(__name__)

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0
# A batch whose handling has ended its process this often is put aside unhandled.
_MOST_ATTEMPTS = 10


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

    async def receive(self, type_: str, batch: Any, *, attempts: int = 0) -> None:
        """Handle the batch of a message; returns once its effects or its burial are committed.

        `attempts`: how many processes have failed at it before.
        """
        if attempts >= _MOST_ATTEMPTS:
            await self._bury(type_, batch, "process_lost")
            return
        try:
            facts, unreadable = batches.from_wire(batch)
        except batches.UnreadableBatch as error:
            await self._bury(type_, batch, f"unreadable_batch: {error}")
            return
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
        given = self._database if subscription.given == "database" else self._actions
        wait = _FIRST_WAIT_SECONDS
        while True:
            first = facts[0]
            current_request_id.set(first.request_id)
            current_traceparent.set(first.traceparent)
            try:
                await subscription.handler(facts, given)
            except ExpectedFailure as failure:
                if not failure.retryable:
                    await self._divide(type_, facts, failure)
                    return
                log.warning("event_waits", type=type_, reason=failure.code, count=len(facts))
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
            except Exception as bug:
                await self._divide(type_, facts, bug)
                return
            else:
                EVENTS_HANDLED.labels(self._listen.service, type_).inc(len(facts))
                requests = [fact.request_id for fact in facts if fact.request_id]
                log.info("events_handled", type=type_, count=len(facts), requests=requests)
                return

    async def _divide(self, type_: str, facts: Sequence[Fact[Event]], failure: Exception) -> None:
        if len(facts) > 1:
            for fact in facts:
                await self._handle(type_, [fact])
            return
        log.error("event_failed", type=type_, event_id=str(facts[0].id), exc_info=failure)
        await self._bury(type_, facts[0].to_wire(), f"handler_failed: {type(failure).__name__}")

    async def _bury(self, type_: str, body: Any, reason: str) -> None:
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                await self._dead.store(type_, body, reason)
                return
            except ExpectedFailure as failure:
                if not failure.retryable:
                    raise
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
