"""Events that a service has put aside: found in its database, sent to its queue again, closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any
from uuid import uuid4

from deploy.companion.errors import CompanionError
from deploy.companion.servers import Servers
from shared.db.database import open_database
from shared.messaging import batch as batches
from shared.messaging.dead_events import PROCESS_LOST, DeadEvent, DeadEvents
from shared.messaging.publisher import NotSent, Publisher
from shared.messaging.subscriptions import Listen
from shared.settings import service_database_url
from shared.tiers import tier_named


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


async def replay(servers: Servers, service: str, number: int) -> list[str]:
    """Send a dead event to its service's queue again, or each event of a batch that has ended its
    worker too often; answers the queue of each.

    Their ids stay, so a service that has handled one meanwhile ignores it. Raises CompanionError
    when not all of them could be sent; then all may be sent again.
    """
    event = await find_dead(servers, service, number)
    queues = _send(servers, service, event.task, _to_send(service, event))
    async with _database(servers, service) as database:
        await DeadEvents(service, database).mark_replayed(number)
    return queues


async def close(servers: Servers, service: str, number: int, *, by: str, why: str) -> None:
    """Wait no more for a dead event that can't be sent again.

    Raises CompanionError for one that can, and where none of that number waits.
    """
    event = await find_dead(servers, service, number)
    if can_be_sent(service, event):
        raise CompanionError(
            f"Dead event {number} of {service} can be sent again.",
            f"Once its cause is repaired: `companion events replay {service} {number}`.",
        )
    async with _database(servers, service) as database:
        if not await DeadEvents(service, database).close(number, by=by, why=why):
            raise CompanionError(f"Dead event {number} of {service} does not wait any more.")


def lost_batch(event: DeadEvent) -> list[Any] | None:
    """The events of a batch that has ended its worker too often; None for anything else.

    Raises CompanionError when they are not what its producer has sent: nobody has looked at such a
    batch before it was put aside.
    """
    if event.reason != PROCESS_LOST:
        return None
    try:
        return batches.envelopes_of(event.body)
    except batches.UnreadableBatch as error:
        raise CompanionError(
            f"Dead event {event.id} is a batch that is not as it was sent ({error}), so it can't "
            "be sent again."
        ) from error


def _to_send(service: str, event: DeadEvent) -> list[Mapping[str, Any]]:
    lost = lost_batch(event)
    envelopes = [event.body] if lost is None else lost
    if not envelopes or not all(isinstance(one, dict) and "tier" in one for one in envelopes):
        raise CompanionError(
            f"Dead event {event.id} of {service} is no envelope, so it can't be sent again.",
            f"`companion events show {service} {event.id}` shows what came instead.",
        )
    return envelopes


def can_be_sent(service: str, event: DeadEvent) -> bool:
    """Whether `replay` has anything to send, and somewhere to send it."""
    try:
        for envelope in _to_send(service, event):
            _queue_of(service, event.task, envelope)
    except CompanionError:
        return False
    return True


def _send(
    servers: Servers, service: str, task: str, envelopes: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Each in a message of its own: what ends its worker then takes no other with it."""
    queues = [_queue_of(service, task, envelope) for envelope in envelopes]
    publisher = Publisher(servers.broker_url)
    try:
        for queue, envelope in zip(queues, envelopes, strict=True):
            publisher.send_to_queue(queue, task, _batch_of(service, envelope))
    except NotSent as error:
        raise CompanionError(f"The broker did not take it ({error}).") from error
    finally:
        publisher.close()
    return queues


def _batch_of(service: str, envelope: Mapping[str, Any]) -> dict[str, Any]:
    return batches.to_wire(
        str(envelope.get("source", service)),
        envelope.get("producerepoch") or uuid4(),
        [{"producerseq": None, **envelope}],
    )


def _queue_of(service: str, task: str, envelope: Mapping[str, Any]) -> str:
    listen: Listen = import_module(f"services.{service}.tasks").listen
    subscription = listen.subscriptions.get(task)
    if subscription is None:
        raise CompanionError(f"{service} does not listen to {task}.")
    # A tier that no longer exists has no queue; the default one's carries what is left of it.
    return f"{service}.{subscription.queue}.{tier_named(str(envelope['tier'])).name}"


def _database(servers: Servers, service: str) -> Any:
    url = service_database_url(servers.database_url, service)
    return open_database(url, connections=1, application="companion-events")
