"""Work that the keyvault gives itself by the clock."""

from __future__ import annotations

from datetime import timedelta

from services.keyvault.actions import Actions
from services.keyvault.tasks import listen


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
