"""How a worker's parent hands messages to its children."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

# A batch is up to half a megabyte, and a pipe usually takes a tenth of that: parent and child would
# wait for each other ten times a batch. This is what any process may ask for, if there is room.
_PIPE_BYTES = 1024 * 1024


class _WidePool(AsynPool):
    """Celery's pool, with pipes that a whole batch fits into."""

    def create_process_queues(self) -> Any:
        queues = super().create_process_queues()
        with suppress(OSError):  # the system's limit for all pipes of its user
            fcntl.fcntl(queues[0]._writer.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return queues


def widen_pipes() -> None:
    """For every pool of children that this process makes from now on."""
    prefork.TaskPool.Pool = _WidePool
