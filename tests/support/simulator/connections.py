"""Ways to end a connection that no well-behaved server uses."""

import asyncio
import socket
import struct
from typing import Final

from aiohttp import web

#: Time for bytes already written to leave in a packet of their own.
GAP_SECONDS: Final = 0.005
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


async def hang_up(request: web.Request) -> None:
    """Close politely (FIN) in the middle of whatever was being said."""
    await asyncio.sleep(GAP_SECONDS)
    if request.transport is not None:
        request.transport.close()


async def reset(request: web.Request) -> None:
    """Drop the connection (RST); without the linger option a close would be polite."""
    await asyncio.sleep(GAP_SECONDS)
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
