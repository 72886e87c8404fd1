"""How long webhooks take when one receiver hangs: `python -m bench.webhooks [--endpoints N]`.

So many endpoints on loopback that answer at once, each told a few things, and one that never
answers and waits for hundreds. The figures are from the start of the pump to each arrival.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import structlog
import uvloop

from services.billing.actions.deliver_webhooks import DeliverWebhooks
from services.billing.actions.keep_webhooks import Asker, KeepWebhooks, WebhookAccess
from services.billing.api.webhook_pump import WebhookPump
from services.billing.providers.webhook_delivery import HttpWebhookSender
from services.billing.providers.webhook_secrets import SealedSecrets
from services.billing.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.ids import UserId
from shared.settings import service_database_url
from tests.support.billing import FixedOrganisations
from tests.support.engines import running_postgres
from tests.support.webhook_receiver import Receiver, hang, receiving, write_webhook_keys

_HANGING_MESSAGES = 300


async def _told(database: Database, keep: KeepWebhooks, receiver: Receiver, messages: int) -> None:
    asker = Asker(UserId(uuid4()))
    await keep.create(asker, receiver.url, ())
    async with SqlWork(database) as work:
        for number in range(messages):
            await work.webhooks.tell(
                asker.id, "limit.reached", {"number": number}, effect_key=str(number)
            )


async def measure(database: Database, keys: Path, endpoints: int, messages: int) -> None:
    """Tell all of them, let the pump run, and say how it went."""
    new_work, clock = (lambda: SqlWork(database)), SystemClock()
    seal, sender = SealedSecrets(keys), HttpWebhookSender(allow_local=True)
    access = WebhookAccess(new_work, FixedOrganisations({}))
    keep = KeepWebhooks(access, new_work, clock, seal, sender)
    deliver = DeliverWebhooks(new_work, clock, sender, seal, random.random)
    expected = endpoints * messages
    async with receiving(hang) as hanging, receiving() as answering:
        await _told(database, keep, hanging, _HANGING_MESSAGES)
        for _ in range(endpoints):
            await _told(database, keep, answering, messages)
        began, cpu = time.perf_counter(), time.process_time()
        pump = asyncio.create_task(WebhookPump(deliver).run())
        halfway = 0.0
        while len(answering.received) < expected:
            await asyncio.sleep(0.005)
            if not halfway and len(answering.received) * 2 >= expected:
                halfway = time.perf_counter() - began
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
    print(
        f"{endpoints} endpoints, {expected} deliveries beside one that hangs: half of them after"
        f" {halfway:.2f} s, the last after {seconds:.2f} s, {expected / seconds:.0f} a second,"
        f" {cpu / expected * 1e3:.2f} CPU-ms each with their receiver's;"
        f" the hanging one had {hanging.most_at_once} at once"
    )


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=200)
    parser.add_argument("--messages", type=int, default=5, help="for each endpoint")
    asked = parser.parse_args()
    uvloop.run(_run(asked.endpoints, asked.messages))


async def _run(endpoints: int, messages: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_postgres(folder) as server:
            server.create_database("companion_billing")
            url = service_database_url(server.url, "billing")
            upgrade("billing", url)
            keys = write_webhook_keys(folder / "webhook-keys.json")
            async with open_database(url, connections=6, application="bench") as database:
                await measure(database, keys, endpoints, messages)


if __name__ == "__main__":
    main()
