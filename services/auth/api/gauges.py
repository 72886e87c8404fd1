"""What Prometheus is told about the audit trail: the numbers to alarm on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client import Gauge

from services.auth.actions import Actions
from services.auth.domain.audit_chain import ChainState
from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.domain.ports import SigningKeySource
from shared.background import repeated, running_beside
from shared.clock import Clock

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
    async with running_beside(repeated(partial(_refresh, actions), pause_seconds=_EVERY_SECONDS)):
        yield


async def _refresh(actions: Actions) -> None:
    show(await actions.watch_audit())


def show(state: ChainState) -> None:
    """Set every gauge."""
    LENGTH.set(state.length)
    WAITING.set(state.waiting)
    LONGEST_WAIT.set(state.longest_wait_seconds)
