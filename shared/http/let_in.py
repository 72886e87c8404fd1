"""How a device comes in at a WebSocket of ours: with its token, as one of few of its user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import structlog
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from shared.close_codes import CloseCode
from shared.errors import ExpectedFailure, Forbidden, LimitReached, Unauthenticated
from shared.http.caller import Caller
from shared.http.errors import respond
from shared.http.socket_door import SocketDoor
from shared.http.socket_words import Auth, Ref

log = structlog.get_logger(__name__)


class Served(Protocol):
    """A device that is in."""

    async def serve(self, ref: Ref) -> None:
        """Until one side closes; `ref` is of the message in which it showed its token."""
        ...


D = TypeVar("D", bound=Served)


async def let_in(
    socket: WebSocket,
    *,
    opened: Callable[[SocketDoor, Caller], D],
    gone: Callable[[D], Awaitable[None]],
    read_word: Callable[[str], tuple[Any, Ref, Any]],
    largest_word: int,
) -> None:
    """Let the device in, then serve it until one side closes. `opened` may refuse it; `gone` is
    told of one that left before it was served."""
    door = SocketDoor(socket)
    try:
        caller = await door.shown_before()
        device = opened(door, caller) if caller is not None else None
    except ExpectedFailure as failure:
        await socket.send_denial_response(respond(failure))
        return
    try:
        await socket.accept(subprotocol=door.subprotocol())
        ref: Ref = None
        if device is None:
            # The token in the first message, which must come within seconds and must be `auth`.
            word, ref, _ = read_word(await door.first_text(largest_word))
            if not isinstance(word, Auth):
                raise Unauthenticated("The first message must be `auth`.")
            device = opened(door, await door.caller(word.token))
    except ExpectedFailure as failure:
        await _close(socket, code_of(failure), failure.code)
    except (WebSocketDisconnect, OSError):
        if device is not None:
            await gone(device)
    else:
        await device.serve(ref)


def code_of(failure: ExpectedFailure) -> CloseCode:
    """Why a socket is closed before anything was said."""
    if isinstance(failure, Unauthenticated):
        return CloseCode.UNAUTHENTICATED
    if isinstance(failure, Forbidden):
        return CloseCode.FORBIDDEN
    return CloseCode.TOO_MANY if isinstance(failure, LimitReached) else CloseCode.RECONNECT


async def _close(socket: WebSocket, code: CloseCode, reason: str) -> None:
    try:
        await socket.close(int(code), reason)
    except (RuntimeError, OSError):
        log.debug("socket_gone_already")
