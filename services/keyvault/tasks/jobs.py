"""Work that the keyvault gives itself by the clock."""

from __future__ import annotations

import socket
from datetime import timedelta

from services.keyvault.actions import Actions
from services.keyvault.tasks import listen

_WORKER_GOOD_FOR = timedelta(seconds=35)


@listen.every(timedelta(seconds=15))
async def request_due_validations(actions: Actions) -> None:
    """Ask for the checks whose time has come."""
    await actions.request_due_validations()


@listen.every(timedelta(seconds=5))
async def forget_users(actions: Actions) -> None:
    """Go on forgetting deleted users of whom something was left."""
    await actions.forget_user.go_on()


@listen.every(timedelta(minutes=5))
async def watch_forgotten_users(actions: Actions) -> None:
    """Erase what has come late of users who were forgotten."""
    await actions.forget_user.watch()


@listen.every(timedelta(minutes=1))
async def drop_old_uses(actions: Actions) -> None:
    """Forget whom services served before the window."""
    await actions.watch_uses.drop_old()


@listen.every(timedelta(hours=1))
async def drop_old_seats(actions: Actions) -> None:
    """Let go of old news about seats."""
    await actions.drop_old_seats()


@listen.every(timedelta(seconds=10))
async def report_keyring(actions: Actions) -> None:
    """Tell that a worker on this machine finds the keyring, and which versions are in it."""
    await actions.examine_vault()
    await actions.report_keyring(f"worker {socket.gethostname()}", good_for=_WORKER_GOOD_FOR)
