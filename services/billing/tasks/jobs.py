"""Work that billing gives itself by the clock."""

from __future__ import annotations

from datetime import timedelta

import structlog

from services.billing.actions import Actions
from services.billing.tasks import listen

log = structlog.get_logger(__name__)


@listen.every(timedelta(seconds=10))
async def request_missing_usage(actions: Actions) -> None:
    """Ask producers for what did not come."""
    requests = await actions.request_missing_usage()
    if requests:
        log.warning("usage_is_missing", requests=requests)


@listen.every(timedelta(minutes=1))
async def rate_unpriced_usage(actions: Actions) -> None:
    """Rate what waited for a price that there is now."""
    rated = await actions.rate_unpriced_usage()
    if rated:
        log.info("usage_rated_later", entries=rated)


@listen.every(timedelta(hours=1))
async def prepare_ledger(actions: Actions) -> None:
    """Make room for the months to come."""
    stray = await actions.prepare_ledger()
    if stray:
        # Some producer's clock is far off; the entries count, but no month holds them.
        log.error("ledger_has_stray_rows", rows=stray)


@listen.every(timedelta(seconds=5))
async def forget_users(actions: Actions) -> None:
    """Go on forgetting deleted users of whom something was left."""
    await actions.forget_user.go_on()


@listen.every(timedelta(minutes=5))
async def watch_forgotten_users(actions: Actions) -> None:
    """Erase what has come late of users who were forgotten."""
    await actions.forget_user.watch()
