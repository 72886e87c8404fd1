"""A WebSocket that is refused before it opens, with an answer that says why, is no error of ours.

uvicorn counts such an answer as no end of the handshake, and logs an error for each.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class WithDenials(WebSocketsSansIOProtocol):
    """uvicorn's protocol, for which a denial that was told to its end is the handshake's."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent and self.initial_response is not None:
            self.handshake_complete = True
