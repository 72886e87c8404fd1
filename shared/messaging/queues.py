"""Making a service's queues, without what works them off."""

from __future__ import annotations

from kombu import Connection

from shared.messaging.broker import dead_queue, events_exchange, is_rabbitmq
from shared.messaging.subscriptions import Listen


def declare_queues(listen: Listen, broker_url: str) -> None:
    """Declare every queue of a service and bind it, so that nothing is published into the void."""
    with Connection(broker_url, connect_timeout=5) as connection:
        channel = connection.default_channel
        events_exchange()(channel).declare()
        for queue in listen.queues(broker_url):
            if is_rabbitmq(broker_url):
                dead_queue(queue.name)(channel).declare()
            queue(channel).declare()
