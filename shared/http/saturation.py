"""How much of what there is is in use: of a process's own whenever somebody looks, of Valkey now
and then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from shared.db.connections import Connections
from shared.db.database import Database
from shared.telemetry.metrics import DATABASE_CONNECTIONS, VALKEY_KEYS, VALKEY_MEMORY
from shared.valkey import FAILURES

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 15.0


def watch_connections(service: str, database: Database) -> None:
    """Show the service's connections to its database; it costs nothing in between."""
    connections = database.connections
    DATABASE_CONNECTIONS.labels(service, "lent").set_function(partial(_lent, connections))
    DATABASE_CONNECTIONS.labels(service, "most").set(connections.most)


def _lent(connections: Connections) -> float:
    return float(connections.lent)


async def watch_valkey(cache: Redis, *, every_seconds: float = _EVERY_SECONDS) -> None:
    """Show how full Valkey is, without an end. One service asks for all: the others' users may not.

    What it does not say is not shown: an old number would look as if all were well.
    """
    is_refused = False
    while True:
        try:
            _show(await cache.info("memory", "stats"))
            is_refused = False
        except FAILURES as error:
            VALKEY_MEMORY.clear()
            VALKEY_KEYS.clear()
            # That it is away is told by whoever needs it.
            if isinstance(error, NoPermissionError) and not is_refused:
                is_refused = True
                log.warning("valkey_tells_nothing", remedy="its user needs +info")
        await asyncio.sleep(every_seconds)


def _show(told: Mapping[str, Any]) -> None:
    # What it would make room for: buffers of replicas and of its file count for nothing there.
    used = told["used_memory"] - told.get("mem_not_counted_for_evict", 0)
    VALKEY_MEMORY.labels("used").set(used)
    VALKEY_MEMORY.labels("most").set(told["maxmemory"])
    VALKEY_KEYS.labels("evicted").set(told["evicted_keys"])
