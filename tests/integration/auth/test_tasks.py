"""The door for queues, on the real database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.auth.tasks import listen
from services.auth.wiring import Wired, wire
from shared.events import Fact
from shared.events.subscription import SubscriptionChanged
from shared.ids import uuid7
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from tests.support.auth import RunningAuth

EPOCH = uuid4()
JOBS = {
    f"auth.jobs.{name}"
    for name in (
        *(
            "forget_expired",
            "forget_old_events",
            "link_audit_events",
            "remind_services",
            "remind_silent_services",
        ),
        "send_due_mails",
        "verify_audit",
    )
}


@pytest.fixture(scope="module")
async def wired(auth: RunningAuth) -> AsyncIterator[Wired]:
    async with wire(auth.settings) as opened:
        yield opened


@pytest.fixture
def consumer(wired: Wired) -> Consumer:
    return Consumer(listen, wired.actions, wired.database)


def changed(user_id: UUID, tier: str, revision: int) -> Fact[SubscriptionChanged]:
    event = SubscriptionChanged(user_id=user_id, tier_name=tier, revision=revision)
    return Fact(event=event, subject=user_id, tier=tier, source="billing")


def batch(*facts: Fact[SubscriptionChanged]) -> object:
    envelopes = [fact.sent_as(EPOCH, n).to_wire() for n, fact in enumerate(facts, start=1)]
    return batches.to_wire("billing", EPOCH, envelopes)


async def tier_of(auth: RunningAuth, headers: dict[str, str]) -> str:
    return str((await auth.client.get("/auth/me", headers=headers)).json()["tier"])


def test_one_queue_per_tier_and_one_for_its_own_work() -> None:
    names = {queue.name for queue in listen.queues("redis://127.0.0.1:1/0")}
    tiers = ("free", "pro", "enterprise")
    queues = ("limits", "mails", "subscriptions", "users", "voices")
    assert names == {f"auth.{queue}.{tier}" for queue in queues for tier in tiers} | {"auth.jobs"}
    assert set(listen.jobs) == JOBS


async def test_a_paid_tier_stands_in_the_next_token(auth: RunningAuth, consumer: Consumer) -> None:
    account = await auth.account()
    await consumer.receive("subscription.changed", batch(changed(account.id, "pro", 1)))
    assert await tier_of(auth, account.headers) == "pro"
    assert (await auth.refresh(account.refresh_token)).json()["user"]["tier"] == "pro"


async def test_news_twice_or_out_of_order_ends_at_the_newest(
    auth: RunningAuth, consumer: Consumer
) -> None:
    account = await auth.account()
    first, second, third = (
        changed(account.id, tier, revision)
        for revision, tier in enumerate(("pro", "enterprise", "free"), start=1)
    )
    for news in (batch(second), batch(second), batch(first), batch(first, second)):
        await consumer.receive("subscription.changed", news)
        assert await tier_of(auth, account.headers) == "enterprise"
    await consumer.receive("subscription.changed", batch(third, first))
    assert await tier_of(auth, account.headers) == "free"


async def test_one_unstorable_fact_does_not_hold_up_the_others(
    auth: RunningAuth, consumer: Consumer, wired: Wired
) -> None:
    account, poisoned = await auth.account(), uuid7()
    other = await auth.account()
    bad = changed(other.id, "p\0ro", 1)
    huge = changed(poisoned, "pro", 2**63)
    await consumer.receive("subscription.changed", batch(bad, changed(account.id, "pro", 1)))
    await consumer.receive("subscription.changed", batch(changed(other.id, "pro", 2)))
    await consumer.receive("subscription.changed", batch(huge))
    assert await tier_of(auth, account.headers) == "pro"
    assert await tier_of(auth, other.headers) == "pro"
    dead = await wired.database.fetch("select reason from dead_event")
    assert len(dead) == 2


async def test_the_housekeeping_job_runs(auth: RunningAuth, wired: Wired) -> None:
    account = await auth.account()
    long_ago = datetime.now(UTC) - timedelta(days=200)
    await wired.database.execute(
        "update sign_in set expires_at = $2 where user_id = $1", account.id, long_ago
    )
    await listen.jobs["auth.jobs.forget_expired"].run(wired.actions)
    left = await wired.database.fetch("select 1 from sign_in where user_id = $1", account.id)
    assert left == []


def test_the_worker_knows_its_tasks(auth: RunningAuth) -> None:
    settings = auth.settings
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "CACHE_URL": settings.cache_url.get_secret_value(),
        "BROKER_URL": settings.broker_url.get_secret_value(),
        "JWKS_URL": settings.jwks_url,
        "IDENTITY_KEY_FILE": str(settings.identity_key_file),
        "IDENTITY_TRUST_FILE": str(settings.identity_trust_file),
    }
    program = (
        "from services.auth.worker import app\n"
        "print(*sorted(name for name in app.tasks if not name.startswith('celery.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == sorted(JOBS | set(listen.subscriptions))
    assert {"subscription.changed", "mail.queued", "user.deleted"} <= set(listen.subscriptions)
