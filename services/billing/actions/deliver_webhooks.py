"""Deliver what waits for webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from services.billing.domain.errors import WebhookSecretsUnavailable
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.webhook import (
    USAGE_BATCH,
    Delivery,
    Endpoint,
    Outcome,
    message_body,
    signature,
)
from services.billing.domain.webhook_ports import Claim, SecretSeal, WebhookSender
from shared.clock import Clock
from shared.events.webhook import WebhookDisabled
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass

# Longer than an attempt and its commit take: who is still at it then has died.
_LEASE = timedelta(seconds=60)
_KEEP_DELIVERED, _KEEP_DEAD = timedelta(days=30), timedelta(days=90)
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class DeliverWebhooks:
    """Claim what is due, send it, and keep what came of it.

    At least once: whoever dies between a receiver's answer and our commit leaves a delivery that is
    sent once more, under the same id.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    sender: WebhookSender
    seal: SecretSeal
    jitter: Callable[[], float]

    async def __call__(self) -> int:
        """What is due now; answers how many attempts were made."""
        attempts = 0
        while claims := await self.claim(_AT_ONCE, most_doubtful=_AT_ONCE // 2):
            await asyncio.gather(*(self.deliver(claim) for claim in claims))
            attempts += len(claims)
        return attempts

    async def claim(self, most: int, *, most_doubtful: int) -> Sequence[Claim]:
        """Deliveries that are ours for a minute."""
        if not self.seal.is_usable():
            return []
        now = self.clock.now()
        async with self.unit_of_work() as work:
            await work.webhook_outbox.cut_usage(now, most=USAGE_BATCH)
            return await work.webhook_outbox.claim(
                now, now + _LEASE, most=most, most_doubtful=most_doubtful
            )

    async def deliver(self, claim: Claim) -> None:
        """One attempt, and what came of it."""
        await self.keep(claim, await self.attempt(claim))

    async def keep(self, claim: Claim, outcome: Outcome) -> None:
        """Write down what came of an attempt."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            if outcome.is_taken:
                await _keep_success(work, claim, outcome, now)
            else:
                await self._keep_failure(work, claim, outcome, now)

    async def forget(self) -> None:
        """What was delivered, or given up, long ago."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            await work.webhook_outbox.forget(
                delivered_before=now - _KEEP_DELIVERED, dead_before=now - _KEEP_DEAD
            )

    async def attempt(self, claim: Claim, reached: Callable[[], None] = lambda: None) -> Outcome:
        """Send it; whatever a receiver does is an outcome. `reached` hears when the receiver is
        being asked."""
        secrets = self._secrets(claim.endpoint)
        if not secrets:
            return Outcome(problem="secret_unreadable")
        body = (await self._body(claim.delivery)).encode()
        return await self.sender.send(
            claim.endpoint.url,
            body,
            self._headers(claim.delivery, body, secrets),
            reached=reached,
        )

    def _headers(
        self, delivery: Delivery, body: bytes, secrets: Sequence[str]
    ) -> Mapping[str, str]:
        timestamp = int(self.clock.now().timestamp())
        return {
            "content-type": "application/json",
            "user-agent": "ToolTip-Companion-Webhooks/1",
            "webhook-id": delivery.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(delivery.message_id, timestamp, body, secrets),
        }

    async def _body(self, delivery: Delivery) -> str:
        if delivery.body is not None or delivery.run is None:
            return delivery.body or ""
        async with self.unit_of_work() as work:
            data: Mapping[str, Any] = await work.webhook_outbox.usage(delivery.run)
        return message_body(delivery.type, delivery.created_at, data)

    def _secrets(self, endpoint: Endpoint) -> list[str]:
        opened = []
        for sealed in endpoint.secrets_at(self.clock.now()):
            try:
                opened.append(self.seal.open(endpoint.id, sealed))
            except WebhookSecretsUnavailable:
                continue  # its key is gone; a new secret helps
        return opened

    async def _keep_failure(
        self, work: UnitOfWork, claim: Claim, outcome: Outcome, now: datetime
    ) -> None:
        endpoint = await work.webhooks.hold(claim.endpoint.id)
        if endpoint is None:
            return
        after = (
            endpoint.disabled("gone", now)
            if outcome.is_gone
            else endpoint.failed(now, outcome.retry_after)
        )
        failed = claim.delivery.failed(outcome, now, jitter=self.jitter())
        if after.disabled_at is not None and failed.run is None:
            failed = failed.given_up(now)
        if not await work.webhook_outbox.settle(failed, claim.lease_id):
            return
        await work.webhooks.save(after)
        if after.disabled_at is not None and endpoint.disabled_at is None:
            await work.webhook_outbox.give_up(endpoint.id, now)
            _tell_disabled(work, after, now)


async def _keep_success(work: UnitOfWork, claim: Claim, outcome: Outcome, now: datetime) -> None:
    endpoint = claim.endpoint
    if endpoint.failures:
        held = await work.webhooks.hold(endpoint.id)
        if held is None:
            return
        endpoint = held
    delivered = claim.delivery.delivered(outcome.status or 0, now)
    if not await work.webhook_outbox.settle(delivered, claim.lease_id):
        return
    if delivered.run is not None:
        await work.webhook_outbox.usage_taken(endpoint.id, delivered.run)
    if endpoint.failures and endpoint.disabled_at is None:
        await work.webhooks.save(endpoint.answered())


def _tell_disabled(work: UnitOfWork, endpoint: Endpoint, now: datetime) -> None:
    event = WebhookDisabled(
        user_id=endpoint.created_by,
        webhook_id=endpoint.id,
        host=urlsplit(endpoint.url).hostname or "",
        reason="gone" if endpoint.disabled_because == "gone" else "failing",
        disabled_at=now,
    )
    work.publish(event, subject=endpoint.created_by, tier=DEFAULT_TIER.name)
