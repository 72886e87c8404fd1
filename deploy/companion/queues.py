"""Declaring every service's queues, so that no event is published into the void."""

from __future__ import annotations

from importlib import import_module

from pydantic import Field

from deploy.companion.programs import SERVICES
from deploy.companion.service_settings import read_settings
from shared.messaging.export_queue import ExportQueue
from shared.messaging.queues import declare_queues
from shared.settings import EnvironmentSettings


def declare_all(broker_url: str) -> None:
    """Declare the queues of all services and bind them to their streams; safe to run twice."""
    for service in SERVICES:
        declare_queues(import_module(f"services.{service}.tasks").listen, broker_url)
    # From the first message on; billing's worker looks after it from here.
    wishes = read_settings(_ExportWishes)
    if wishes.wanted:
        ExportQueue(broker_url, most_messages=wishes.most_messages).bind()


class _ExportWishes(EnvironmentSettings):
    """What billing's settings say about its export queue, where nothing else of billing is set."""

    wanted: bool = Field(False, validation_alias="BILLING_EXPORT_QUEUE")
    most_messages: int = Field(100_000, validation_alias="BILLING_EXPORT_QUEUE_MOST_MESSAGES")
