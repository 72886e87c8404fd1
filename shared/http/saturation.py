"""How much of what a process has is in use, shown whenever somebody looks."""

from __future__ import annotations

from functools import partial

from shared.db.connections import Connections
from shared.db.database import Database
from shared.telemetry.metrics import DATABASE_CONNECTIONS


def watch_connections(service: str, database: Database) -> None:
    """Show the service's connections to its database; it costs nothing in between."""
    connections = database.connections
    DATABASE_CONNECTIONS.labels(service, "lent").set_function(partial(_lent, connections))
    DATABASE_CONNECTIONS.labels(service, "most").set(connections.most)


def _lent(connections: Connections) -> float:
    return float(connections.lent)
