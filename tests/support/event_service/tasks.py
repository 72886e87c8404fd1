"""What the test service listens to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.messaging.subscriptions import Listen
from tests.support.event_service.actions import Actions

JOB_INTERVAL = timedelta(seconds=1)


def listen_as(service: str) -> Listen:
    """The subscriptions and jobs of the test service under a name of its own."""
    listen = Listen(service)

    @listen.to(UsageRecorded, queue="usage")
    async def write_down(facts: Sequence[Fact[UsageRecorded]], actions: Actions) -> None:
        """Each usage leaves one effect."""
        await actions.write_down(facts)

    @listen.every(JOB_INTERVAL)
    async def tick(actions: Actions) -> None:
        """Each tick leaves a row."""
        await actions.tick()

    return listen
