"""HEAD: what GET would answer, without its content (RFC 9110, 9.3.2). Uptime monitors ask so.

FastAPI's routes take the methods that they name, and none of ours names HEAD.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from shared.http.door import App, Message, Receive, Scope, Send

_HEAD_ALONE = "companion.head_alone"


def is_head_alone(scope: Mapping[str, Any]) -> bool:
    """Whether nobody reads more than the head: for a route whose content is dear to make before it
    is begun."""
    return _HEAD_ALONE in scope


async def answer_head(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Ask the application as with GET, and let the head of its answer pass alone.

    The answer is over with its head: an application that streams one hears what it hears when its
    reader leaves, and ends. Nobody waits for its pieces.
    """
    asked = {**scope, "method": "GET", _HEAD_ALONE: True}

    async def head_alone(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            # Who writes piece after piece and waits for nothing would not hear that nobody reads.
            await asyncio.sleep(0)

    try:
        await app(asked, receive, head_alone)
    finally:
        # The door's log and metrics go by the route.
        if "route" in asked:
            scope["route"] = asked["route"]
