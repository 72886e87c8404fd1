"""Connecting to a WebSocket of ours as a page of a browser does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol


@asynccontextmanager
async def as_a_page(
    url: str,
    token: str | None,
    *,
    headers: Mapping[str, str] | None = None,
    protocols: Sequence[str] = (),
) -> AsyncIterator[ClientConnection]:
    """The token as a subprotocol, as a page of a browser has to send it; or with headers.
    `protocols` are offered in place of ours."""
    offered = [*protocols] or (["companion.v1", f"bearer.{token}"] if token else [])
    async with connect(
        url.replace("http", "ws", 1),
        additional_headers=headers,
        subprotocols=[Subprotocol(name) for name in offered] or None,
        proxy=None,
    ) as connection:
        yield connection
