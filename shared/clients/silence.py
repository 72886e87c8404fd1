"""Peers that are gone without a word: a machine that lost its power, a network that was cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

SILENCE_SECONDS = 20
"""An answer may have pauses of minutes. That the peer is still there is the kernel's business: it
asks, and breaks the connection when nothing comes back for so long."""

_IDLE_SECONDS, _INTERVAL_SECONDS = 10, 5
# What a system has no name for is left as it is.
_OPTIONS: Mapping[str, int] = {
    "TCP_KEEPIDLE": _IDLE_SECONDS,
    "TCP_KEEPINTVL": _INTERVAL_SECONDS,
    "TCP_KEEPCNT": (SILENCE_SECONDS - _IDLE_SECONDS) // _INTERVAL_SECONDS,
    "TCP_USER_TIMEOUT": SILENCE_SECONDS * 1000,
}


def notice_silence(transport: asyncio.BaseTransport) -> None:
    """Have this connection break within `SILENCE_SECONDS` when its peer is gone."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
