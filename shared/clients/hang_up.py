"""The end of a WebSocket that we opened."""

from __future__ import annotations

from websockets.asyncio.client import ClientConnection


async def hang_up(connection: ClientConnection) -> None:
    """Say goodbye, and end the connection whatever comes of it.

    Whoever is cancelled while it says goodbye would leave the connection open, and the other side
    at work. On Python 3.11.2 a goodbye that takes too long is ended so in a task that was cancelled
    before: its `asyncio.timeout` then raises no TimeoutError.
    """
    try:
        await connection.close()
    finally:
        connection.transport.abort()
