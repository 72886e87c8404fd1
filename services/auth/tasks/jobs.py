"""Work that auth gives itself by the clock."""

from __future__ import annotations

import time
from datetime import timedelta

import structlog

from services.auth.actions import Actions
from services.auth.tasks import listen
from services.auth.tasks.on_mail import count
from shared.telemetry.metrics import CHAIN_BROKEN, CHAIN_VERIFIED_AT

log = structlog.get_logger(__name__)


# More often than daily, so that it runs even where the process restarts every day.
@listen.every(timedelta(hours=6))
async def forget_expired(actions: Actions) -> None:
    """Delete sign-ins that are long over, and what else nobody needs any more."""
    await actions.forget_expired()


@listen.every(timedelta(seconds=3))
async def link_audit_events(actions: Actions) -> None:
    """Take new audit events up into the chain: until then a change of one would go unseen."""
    await actions.link_audit_events()


@listen.every(timedelta(hours=6))
async def verify_audit(actions: Actions) -> None:
    """Walk the chain from its first link: nobody has changed what was noted."""
    verdict = await actions.verify_audit()
    if verdict.broken is not None:
        log.error("audit_chain_is_broken", reason=verdict.broken)
    CHAIN_BROKEN.labels("audit").set(verdict.broken is not None)
    CHAIN_VERIFIED_AT.labels("audit").set(time.time())


@listen.every(timedelta(seconds=20))
async def remind_services(actions: Actions) -> None:
    """Ask again who has not said that it has forgotten a user who was deleted a moment ago."""
    await actions.remind_services.late()


@listen.every(timedelta(minutes=10))
async def remind_silent_services(actions: Actions) -> None:
    """The same for those that have been silent for longer."""
    await actions.remind_services.very_late()


@listen.every(timedelta(seconds=30))
async def send_due_mails(actions: Actions) -> None:
    """Try again what could not be sent, and what was queued while nobody listened."""
    count(await actions.send_mails.due())
