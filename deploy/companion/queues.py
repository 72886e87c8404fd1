"""Declaring every service's queues, so that no event is published into the void."""

from __future__ import annotations

from importlib import import_module

from deploy.companion.programs import SERVICES
from shared.messaging.celery_app import declare_queues


def declare_all(broker_url: str) -> None:
    """Declare the queues of all services and bind them to their streams; safe to run twice."""
    for service in SERVICES:
        declare_queues(import_module(f"services.{service}.tasks").listen, broker_url)
