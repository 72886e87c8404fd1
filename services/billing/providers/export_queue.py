"""The copy of the usage messages for a consumer of the operator's."""

from __future__ import annotations

import asyncio

import structlog

from services.billing.domain.errors import ExportQueueUnavailable
from shared.messaging.export_queue import ExportQueue, ExportQueueAway

log = structlog.get_logger(__name__)


class BrokersExportQueue:
    """The queue on our broker, wanted or not."""

    def __init__(self, broker_url: str, *, wanted: bool, most_messages: int) -> None:
        self._queue = ExportQueue(broker_url, most_messages=most_messages)
        self._wanted = wanted

    async def keep(self) -> int:
        try:
            return await asyncio.to_thread(self._keep)
        except ExportQueueAway as away:
            raise ExportQueueUnavailable from away

    def _keep(self) -> int:
        if not self._wanted:
            self._queue.unbind()
            return 0
        self._queue.bind()
        dropped = self._queue.cut()
        if dropped:
            log.error("export_queue_was_full", dropped_messages=dropped)
        return self._queue.waiting()
