"""Work that the keyvault gives itself by the clock."""

from __future__ import annotations

from datetime import timedelta

from services.keyvault.actions import Actions
from services.keyvault.tasks import listen


@listen.every(timedelta(seconds=15))
async def request_due_validations(actions: Actions) -> None:
    """Ask for the checks whose time has come."""
    await actions.request_due_validations()
