"""What Prometheus is told about the audit trail: the numbers to alarm on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from prometheus_client import Gauge

from services.auth.actions import Actions
from services.auth.domain.audit_chain import ChainState
from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.domain.ports import SigningKeySource
from shared.clock import Clock
from shared.errors import ExpectedFailure

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 15.0

LENGTH = Gauge("companion_auth_audit_chain_length", "Links of the audit chain; never shrinks.")
WAITING = Gauge("companion_auth_audit_events_waiting", "Audit events without a link yet.")
LONGEST_WAIT = Gauge(
    "companion_auth_audit_longest_wait_seconds",
    "Age of the oldest audit event without a link: until it has one, a change would go unseen.",
)

SIGNING_KEY_AGE = Gauge(
    "companion_auth_signing_key_age_seconds",
    "How long the active signing key has signed; 0 where its file does not say.",
    multiprocess_mode="max",
)


def watch_signing_key(keys: SigningKeySource, clock: Clock) -> None:
    """Show the key's age whenever somebody looks; it costs nothing in between."""
    SIGNING_KEY_AGE.set_function(partial(_age, keys, clock))


def _age(keys: SigningKeySource, clock: Clock) -> float:
    try:
        since = keys.current().line.active.activated_at
    except SigningKeysUnavailable:
        return 0.0
    return 0.0 if since is None else (clock.now() - since).total_seconds()


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
