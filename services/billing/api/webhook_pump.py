"""Webhooks are delivered beside the requests that the web process serves.

A worker does one thing at a time, and receivers take theirs: there usage would wait for them.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from services.billing.actions.deliver_webhooks import DeliverWebhooks
from services.billing.domain.webhook import Outcome
from services.billing.domain.webhook_ports import Claim
from shared.errors import ExpectedFailure, Unavailable
from shared.values import dataclass

log = structlog.get_logger(__name__)

_AT_ONCE = 64
# What a receiver has not answered so long after it was asked holds none of those places up, but one
# of these: dozens of receivers may take their time for each, and nobody else waits for them. Whom
# nobody can find yet keeps a place, as name servers are asked for so many at once; and so does what
# waits for our own database.
_SLOW_AFTER_SECONDS = 1.0
_SLOW_AT_ONCE = 192
# Receivers that failed last time may take so many places, however many of them there are.
_DOUBTFUL_AT_ONCE = 24
_LOOK_SECONDS = 1.0
_GATHER_SECONDS = 0.02
_KEPT_AT_ONCE = 3
_TRIES = 4


@dataclass(slots=True)
class _Attempt:
    is_doubtful: bool
    asked_at: float | None = None  # while the receiver is asked

    def asks(self) -> None:
        self.asked_at = time.monotonic()


class WebhookPump:
    """Keeps as many attempts under way as there are places, and looks again each second."""

    def __init__(
        self, deliver: DeliverWebhooks, *, slow_after_seconds: float = _SLOW_AFTER_SECONDS
    ) -> None:
        self._deliver = deliver
        self._slow_after_seconds = slow_after_seconds
        self._running: dict[asyncio.Task[None], _Attempt] = {}
        # The process has few connections, and requests need them too.
        self._keeping = asyncio.Semaphore(_KEPT_AT_ONCE)

    async def run(self) -> None:
        """Until it is cancelled; what is under way then is sent once more by whoever comes next."""
        try:
            while True:
                await self._top_up()
                await self._wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _top_up(self) -> None:
        doubtful = sum(attempt.is_doubtful for attempt in self._running.values())
        free = self._free
        if free <= 0:
            return
        try:
            claims = await self._deliver.claim(
                free, most_doubtful=max(0, _DOUBTFUL_AT_ONCE - doubtful)
            )
        except ExpectedFailure as failure:
            log.warning("webhooks_not_claimed", reason=failure.code)
        except Exception:  # a bug here must not end all deliveries for good
            log.exception("webhooks_not_claimed")
        else:
            for claim in claims:
                self._begin(claim)

    @property
    def _free(self) -> int:
        slow_since = time.monotonic() - self._slow_after_seconds
        slow = sum(
            attempt.asked_at is not None and attempt.asked_at <= slow_since
            for attempt in self._running.values()
        )
        return _AT_ONCE - (len(self._running) - min(slow, _SLOW_AT_ONCE))

    def _begin(self, claim: Claim) -> None:
        attempt = _Attempt(claim.endpoint.failures > 0)
        self._running[asyncio.create_task(self._attempt(claim, attempt))] = attempt

    async def _attempt(self, claim: Claim, attempt: _Attempt) -> None:
        try:
            outcome = await self._deliver.attempt(claim, attempt.asks)
            attempt.asked_at = None
            await self._keep(claim, outcome)
        except ExpectedFailure as failure:  # its lease ends, and somebody tries again
            log.warning("webhook_not_settled", reason=failure.code)
        except Exception:
            log.exception("webhook_not_settled", delivery_id=str(claim.delivery.id))

    async def _keep(self, claim: Claim, outcome: Outcome) -> None:
        """What a receiver has taken is not lost for want of a connection: it would get it again."""
        async with self._keeping:
            for _ in range(_TRIES - 1):
                try:
                    await self._deliver.keep(claim, outcome)
                except Unavailable:
                    await asyncio.sleep(_LOOK_SECONDS)
                else:
                    return
            await self._deliver.keep(claim, outcome)

    async def _wait(self) -> None:
        if not self._running:
            await asyncio.sleep(_LOOK_SECONDS)
            return
        seconds = min(_LOOK_SECONDS, self._slow_after_seconds)
        done, _ = await asyncio.wait(
            self._running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if done:
            # Others are about to end too: one claim for all of them.
            await asyncio.sleep(_GATHER_SECONDS)
        self._running = {task: a for task, a in self._running.items() if not task.done()}
