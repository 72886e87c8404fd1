"""Billing's web process in process, a producer with an outbox of its own, and the books' check."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import Engine

from services.billing.actions import Actions
from services.billing.actions.link_ledger import LinkLedger
from services.billing.app import create_app
from services.billing.domain.ports import (
    LimitCounters,
    NewUnitOfWork,
    Organisations,
    Payments,
)
from services.billing.domain.price_book import ListPrices
from services.billing.providers.list_prices import PublicPrices
from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from services.billing.wiring import build_actions
from shared.clock import Clock, SystemClock
from shared.db import outbox
from shared.db.database import Database, open_database
from shared.db.unit_of_work import SqlUnitOfWork
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from shared.messaging.replay import install_replay
from shared.messaging.subscriptions import Listen
from shared.settings import service_database_url
from tests.support.billing import FixedCounters, FixedOrganisations
from tests.support.tokens import TokenMint

NOBODYS = UUID("01900000-0000-7000-8000-000000000007")

# Every sum of the ledger beside what the hours say; nothing is left where they agree.
_DRIFT = """
with truth as (
    select user_id, date_trunc('hour', occurred_at, 'UTC') as hour, provider, model, operation,
           sandbox, count(*) as requests,
           count(*) filter (where cost_microusd is null) as unpriced_requests,
           sum(input_tokens) as input_tokens, sum(cache_read_tokens) as cache_read_tokens,
           sum(cache_write_tokens) as cache_write_tokens, sum(output_tokens) as output_tokens,
           sum(output_reasoning_tokens) as output_reasoning_tokens,
           sum(characters) as characters, coalesce(sum(cost_microusd), 0) as cost_microusd
    from ledger_entry group by 1, 2, 3, 4, 5, 6
)
(select * from truth except all select * from usage_hour)
union all
(select * from usage_hour except all select * from truth)
"""


def actions_on(
    work: NewUnitOfWork,
    settings: Settings,
    clock: Clock,
    *,
    list_prices: ListPrices | None = None,
    counters: LimitCounters | None = None,
    organisations: Organisations | None = None,
    payments: Payments | None = None,
) -> Actions:
    """Billing's verbs. Who is not given has nothing to say: no counter, no organisation."""
    return build_actions(
        work,
        list_prices=list_prices or PublicPrices(),
        counters=counters or FixedCounters({}),
        organisations=organisations or FixedOrganisations(),
        payments=payments,
        clock=clock,
        settings=settings,
    )


async def drift(database: Database) -> list[Any]:
    """Where the hourly sums and the ledger disagree, once all that waits for its link has it."""
    await LinkLedger(lambda: SqlWork(database))()
    return await database.fetch(_DRIFT)


async def ids_in(database: Database) -> list[UUID]:
    """The events in the ledger, each as often as it is there."""
    return [row["event_id"] for row in await database.fetch("select event_id from ledger_entry")]


@dataclass
class Billing:
    """A running web process, and a way to fill its ledger."""

    public: httpx.AsyncClient
    internal: httpx.AsyncClient
    mint: TokenMint
    database: Database
    settings: Settings

    @property
    def actions(self) -> Actions:
        """Its verbs, as its worker has them."""
        return actions_on(lambda: SqlWork(self.database), self.settings, SystemClock())

    async def record(self, *facts: Fact[UsageRecorded]) -> None:
        """Take them in and count them."""
        await self.actions.record_usage(facts)
        await self.actions.link_ledger()

    async def get(self, path: str, user: UUID, **options: Any) -> httpx.Response:
        headers = {**self.mint.headers(user), **options.pop("headers", {})}
        return await self.public.get(f"/billing/{path}", headers=headers, **options)

    async def send(
        self, method: str, path: str, user: UUID, *, role: str = "member", **options: Any
    ) -> httpx.Response:
        headers = self.mint.headers(user, role=role) | options.pop("headers", {})
        return await self.public.request(method, f"/billing/{path}", headers=headers, **options)


@asynccontextmanager
async def running_billing(settings: Settings, mint: TokenMint) -> AsyncIterator[Billing]:
    """The real application, behind its real doors."""
    process = create_app(settings)
    url = service_database_url(settings.database_url.get_secret_value(), "billing")
    async with (
        process.lifespan(),
        open_database(url, connections=4, application="tests") as database,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(process.public), base_url="http://billing"
        ) as public,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(process.internal), base_url="http://internal"
        ) as internal,
    ):
        yield Billing(public, internal, mint, database, settings)


class _ChatWork(SqlUnitOfWork):
    service = "chat"


@dataclass
class Producer:
    """A chat service reduced to its outbox: publishes usage, and answers requests for more."""

    database: Database
    engine: Engine
    listen: Listen = field(default_factory=lambda: Listen("chat"))

    def __post_init__(self) -> None:
        install_replay(self.listen)

    async def publish(self, facts: Sequence[Fact[UsageRecorded]]) -> None:
        async with _ChatWork(self.database) as work:
            for fact in facts:
                work.publish(fact.event, subject=fact.subject, tier=fact.tier, id_=fact.id)

    async def announce(self) -> None:
        await self.listen.jobs["chat.jobs.announce_usage"].run(self.database)

    async def receive(self, type_: str, message: dict[str, Any]) -> None:
        await Consumer(self.listen, None, self.database).receive(type_, message)

    def send(self, stream: str, *, most: int = 200) -> dict[str, Any] | None:
        """The next message of the stream, as the relay makes it; None when nothing waits."""
        return next_message(self.engine, "chat", stream, most=most)


def next_message(
    engine: Engine, service: str, stream: str, *, most: int = 200
) -> dict[str, Any] | None:
    """Take a batch out of an outbox and wrap it, as the relay does."""
    claimed = outbox.claim(engine, stream, most=most, lease=timedelta(seconds=30))
    if claimed is None:
        return None
    outbox.mark_sent(engine, claimed)
    envelopes = [
        {**event.envelope, "producerepoch": str(claimed.epoch), "producerseq": event.sequence}
        for event in claimed.events
    ]
    return batches.to_wire(service, claimed.epoch, envelopes)


async def take_in(consumer: Consumer, message: dict[str, Any]) -> None:
    """Usage as a worker takes it: as a message's body that nobody has read yet."""
    body = batches.body_of([[], {"batch": message}, {}])
    await consumer.receive_unread(UsageRecorded.type, body)


def a_message(facts: Sequence[Fact[Any]], producer: str = "chat") -> dict[str, Any]:
    """Facts as one message."""
    epoch = next((fact.epoch for fact in facts if fact.epoch), UUID(int=1))
    # The wrapper wants numbers; facts without one are as a test wants them.
    envelopes = [{"producerseq": 0, **fact.to_wire()} for fact in facts]
    for envelope, fact in zip(envelopes, facts, strict=True):
        if fact.sequence is None:
            envelope["producerseq"] = None
    return batches.to_wire(producer, epoch, envelopes)
