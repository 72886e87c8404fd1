"""What Prometheus is told about the audit trail: the numbers to alarm on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import Gauge

from services.auth.actions import Actions
from services.auth.domain.audit_chain import ChainState
from shared.errors import ExpectedFailure

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 15.0

LENGTH = Gauge("companion_auth_audit_chain_length", "Links of the audit chain; never shrinks.")
WAITING = Gauge("companion_auth_audit_events_waiting", "Audit events without a link yet.")
LONGEST_WAIT = Gauge(
    "companion_auth_audit_longest_wait_seconds",
    "Age of the oldest audit event without a link: until it has one, a change would go unseen.",
)


@asynccontextmanager
async def keep_gauges(actions: Actions) -> AsyncIterator[None]:
    """Keep the gauges fresh while the process serves."""
    task = asyncio.create_task(_refresh(actions))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _refresh(actions: Actions) -> None:
    while True:
        try:
            show(await actions.watch_audit())
        except ExpectedFailure as failure:
            log.warning("gauges_not_refreshed", reason=failure.code)
        except Exception:  # a bug here must not leave the gauges standing still for good
            log.exception("gauges_not_refreshed")
        await asyncio.sleep(_EVERY_SECONDS)


def show(state: ChainState) -> None:
    """Set every gauge."""
    LENGTH.set(state.length)
    WAITING.set(state.waiting)
    LONGEST_WAIT.set(state.longest_wait_seconds)
