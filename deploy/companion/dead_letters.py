"""Events that a service has put aside: found in its database, sent to its queue again."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from uuid import uuid4

from deploy.companion.errors import CompanionError
from deploy.companion.servers import Servers
from shared.db.database import open_database
from shared.messaging import batch as batches
from shared.messaging.dead_events import DeadEvent, DeadEvents
from shared.messaging.publisher import NotSent, Publisher
from shared.messaging.subscriptions import Listen
from shared.settings import service_database_url


async def list_dead(
    servers: Servers, service: str, *, most: int, with_replayed: bool
) -> list[DeadEvent]:
    """The newest dead events of a service."""
    async with _database(servers, service) as database:
        return await DeadEvents(service, database).list(most=most, with_replayed=with_replayed)


async def find_dead(servers: Servers, service: str, number: int) -> DeadEvent:
    """One dead event. Raises CompanionError when there is none of that number."""
    async with _database(servers, service) as database:
        event = await DeadEvents(service, database).get(number)
    if event is None:
        raise CompanionError(f"{service} has no dead event {number}.")
    return event


async def replay(servers: Servers, service: str, number: int) -> str:
    """Send a dead event to its service's queue again; answers the queue.

    Its id stays, so a service that has handled it meanwhile ignores it. Raises CompanionError when
    it can't be sent.
    """
    event = await find_dead(servers, service, number)
    envelope = event.body
    if not isinstance(envelope, dict) or "tier" not in envelope:
        raise CompanionError(
            f"Dead event {number} of {service} is no envelope, so it can't be sent again.",
            f"`companion events show {service} {number}` shows what came instead.",
        )
    queue = _queue_of(service, event.task, envelope)
    wire = batches.to_wire(
        str(envelope.get("source", service)),
        envelope.get("producerepoch") or uuid4(),
        [{"producerseq": None, **envelope}],
    )
    publisher = Publisher(servers.broker_url)
    try:
        publisher.send_to_queue(queue, event.task, wire)
    except NotSent as error:
        raise CompanionError(f"The broker did not take it ({error}).") from error
    finally:
        publisher.close()
    async with _database(servers, service) as database:
        await DeadEvents(service, database).mark_replayed(number)
    return queue


def _queue_of(service: str, task: str, envelope: Mapping[str, Any]) -> str:
    listen: Listen = import_module(f"services.{service}.tasks").listen
    subscription = listen.subscriptions.get(task)
    if subscription is None:
        raise CompanionError(f"{service} does not listen to {task}.")
    return f"{service}.{subscription.queue}.{envelope['tier']}"


def _database(servers: Servers, service: str) -> Any:
    url = service_database_url(servers.database_url, service)
    return open_database(url, connections=1, application="companion-events")
