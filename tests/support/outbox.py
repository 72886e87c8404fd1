"""The relay of a service whose broker takes everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.db.engine import sync_engine
from shared.messaging.publisher import Publisher
from shared.messaging.relay import Relay
from shared.settings import service_database_url


class _TakesAll(Publisher):
    def __init__(self) -> None:
        super().__init__("redis://:none@127.0.0.1:1/1")

    def send(self, stream: str, type_: str, batch: Mapping[str, Any], *, routed: bool) -> None:
        """It is confirmed."""


def relay_all(service: str, server_url: str) -> int:
    """Send all that waits; answers how many events that were."""
    engine = sync_engine(service_database_url(server_url, service))
    try:
        relay, sent = Relay(service, engine, _TakesAll()), 0
        while now := relay.run_once():
            sent += now
        return sent
    finally:
        engine.dispose()
