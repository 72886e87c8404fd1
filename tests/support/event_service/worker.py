"""The test service's worker process."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared.db.database import Database, open_database
from shared.messaging import consumer
from shared.messaging.celery_app import create_celery
from shared.settings import CommonSettings, service_database_url
from tests.support.event_service.actions import Actions, Tick, WriteDown
from tests.support.event_service.tasks import listen_as


@dataclass(frozen=True, slots=True)
class Wired:
    """The parts of a worker."""

    actions: Actions
    database: Database


@asynccontextmanager
async def wire(settings: CommonSettings) -> AsyncIterator[Wired]:
    """Fails while `NOT_WIRABLE` names a file that exists."""
    if Path(os.environ.get("NOT_WIRABLE", "/nowhere")).exists():
        raise RuntimeError("a part is missing")
    url = service_database_url(settings.database_url.get_secret_value(), SERVICE)
    async with open_database(url, connections=4, application=SERVICE) as database:
        yield Wired(Actions(WriteDown(database), Tick(database)), database)


SERVICE = os.environ["EVENT_SERVICE"]
settings = CommonSettings.from_environment()
app = create_celery(listen_as(SERVICE), settings, partial(wire, settings))
# Shorter waits and fewer attempts than in production, so that a test sees how they end.
if "MOST_ATTEMPTS" in os.environ:
    consumer._MOST_ATTEMPTS = int(os.environ["MOST_ATTEMPTS"])
app.conf.broker_transport_options |= json.loads(os.environ.get("TRANSPORT_OPTIONS", "{}"))
