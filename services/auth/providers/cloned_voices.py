"""The voices that a user had made, deleted at their vendor by voice."""

from __future__ import annotations

import asyncio

import httpx
import structlog

from shared.events.base import current_request_id
from shared.identity import USER_HEADER, ServiceIdentity
from shared.ids import UserId
from shared.telemetry.tracing import calling

log = structlog.get_logger(__name__)

# Voice gives up before that; somebody waits whose account is to be deleted either way.
_PATIENCE_SECONDS = 8.0


class VoicesAtVoice:
    """Asks voice on its internal port, with the user's own token: no other proof gets their key."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str | None,
        identity: ServiceIdentity,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """`url`: the base URL of voice's internal port, None where there is no voice."""
        self._client = client
        self._url = url
        self._identity = identity
        self._patience = patience_seconds

    async def remove_all(self, user_id: UserId, *, access_token: str) -> int | None:
        if self._url is None:
            return None
        headers = {
            "authorization": f"Bearer {self._identity.token_for('voice')}",
            USER_HEADER: access_token,
            "x-request-id": current_request_id.get() or "",
        }
        try:
            # The client's own timeouts are for each piece of an answer.
            async with asyncio.timeout(self._patience):
                with calling("remove every voice", peer="voice") as trace:
                    answer = await self._client.delete(
                        f"{self._url.rstrip('/')}/internal/users/{user_id}/voices",
                        headers=headers | trace,
                        timeout=httpx.Timeout(self._patience, connect=2.0),
                    )
            answer.raise_for_status()
            wire = answer.json()
            return len(wire["left"]) if wire["are_all"] else None
        except (TimeoutError, httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            log.warning("voices_not_removed", reason=type(error).__name__)
            return None
