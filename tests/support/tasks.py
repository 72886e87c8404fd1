"""Which tasks of the event loop are whose."""

from __future__ import annotations

import asyncio
from types import ModuleType


def tasks_of(module: ModuleType) -> set[asyncio.Task[object]]:
    """Those that run a function of this module, and not what servers of other tests are at."""
    return {task for task in asyncio.all_tasks() if _file_of(task) == module.__file__}


def _file_of(task: asyncio.Task[object]) -> str | None:
    code = getattr(task.get_coro(), "cr_code", None)
    return code.co_filename if code is not None else None
