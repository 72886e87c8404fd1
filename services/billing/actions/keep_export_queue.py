"""The queue that a consumer outside reads usage from."""

from __future__ import annotations

from services.billing.domain.export_ports import ExportQueue
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class KeepExportQueue:
    """Have it there, bound and within its limit, or get no copies when it is not wanted."""

    queue: ExportQueue

    async def __call__(self) -> int:
        """Answers how many messages wait in it. Raises ExportQueueUnavailable."""
        return await self.queue.keep()
