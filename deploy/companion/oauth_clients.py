"""The OAuth clients of this installation, registered in auth's database directly."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.companion.errors import CompanionError
from deploy.companion.staff import auth_settings
from services.auth.domain.oauth_client import OAuthClient
from services.auth.wiring import wire
from shared.errors import ExpectedFailure


async def register(name: str, redirect_uris: Sequence[str]) -> OAuthClient:
    """Register a client. Raises CompanionError."""
    try:
        async with wire(auth_settings()) as wired:
            return await wired.actions.register_client(name, redirect_uris)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def known() -> Sequence[OAuthClient]:
    """All clients. Raises CompanionError."""
    try:
        async with wire(auth_settings()) as wired:
            return await wired.actions.list_clients()
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def disable(client_id: str) -> int:
    """Disable a client; answers how many sign-ins have ended. Raises CompanionError."""
    try:
        async with wire(auth_settings()) as wired:
            return await wired.actions.disable_client(client_id)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure
