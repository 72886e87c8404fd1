"""`WS /chat/ws`: one socket for each device.

A device shows its token before the socket opens (`Authorization`, or the subprotocol
`bearer.<token>`, which is all that a browser's page can send) or in its first message; never in the
URL. Then it says words (`socket_words`) and hears the events of the sessions that it has joined.
"""

from __future__ import annotations

import structlog
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from services.chat.actions import Actions
from services.chat.actions.devices import CloseCode
from services.chat.api.device import Device
from services.chat.api.socket_words import LARGEST_FRAME_BYTES, read_word
from shared.errors import ExpectedFailure, Forbidden, LimitReached, Unauthenticated
from shared.http.caller import Caller
from shared.http.errors import respond
from shared.http.socket_door import SocketDoor
from shared.http.socket_words import Auth, Ref

log = structlog.get_logger(__name__)

router = APIRouter()


@router.websocket("/chat/ws")
async def talk(socket: WebSocket) -> None:
    """Let the device in, then serve it until one side closes."""
    door = SocketDoor(socket)
    try:
        caller = await door.shown_before()
        device = _opened(socket, door, caller) if caller is not None else None
    except ExpectedFailure as failure:
        await socket.send_denial_response(respond(failure))
        return
    try:
        await socket.accept(subprotocol=door.subprotocol())
        ref: Ref = None
        if device is None:
            caller, ref = await _shown_first(door)
            device = _opened(socket, door, caller)
    except ExpectedFailure as failure:
        await _close(socket, _code_of(failure), failure.code)
    except (WebSocketDisconnect, OSError):
        if device is not None:
            await _actions(socket).devices.gone(device)
    else:
        await device.serve(ref)


def _opened(socket: WebSocket, door: SocketDoor, caller: Caller) -> Device:
    """Raises TooManySockets."""
    device = Device(socket, _actions(socket), caller, door=door)
    _actions(socket).devices.open(device)
    return device


def _actions(socket: WebSocket) -> Actions:
    actions: Actions = socket.app.state.actions
    return actions


async def _shown_first(door: SocketDoor) -> tuple[Caller, Ref]:
    """The token in the first message, which must come within seconds and must be `auth`."""
    word, ref, _ = read_word(await door.first_text(LARGEST_FRAME_BYTES))
    if not isinstance(word, Auth):
        raise Unauthenticated("The first message must be `auth`.")
    return await door.caller(word.token), ref


def _code_of(failure: ExpectedFailure) -> CloseCode:
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
