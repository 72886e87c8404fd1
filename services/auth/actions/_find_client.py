"""Find the client that a request names."""

from __future__ import annotations

from services.auth.domain.errors import UnknownClient
from services.auth.domain.oauth_client import OAuthClient, is_client_id
from services.auth.domain.ports import UnitOfWork


async def find_client(work: UnitOfWork, client_id: str) -> OAuthClient:
    """The client, which may ask for tokens. Raises UnknownClient."""
    client = await work.oauth_clients.get(client_id) if is_client_id(client_id) else None
    if client is None or not client.is_enabled:
        raise UnknownClient
    return client
