"""`WS /voice/realtime`: text in, audio out, utterance by utterance."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from services.voice.actions import Actions
from services.voice.actions.hearers import CloseCode
from services.voice.api.realtime_socket import RealtimeSocket
from services.voice.api.realtime_words import LARGEST_MESSAGE, read_word
from shared.errors import ExpectedFailure, Forbidden, LimitReached, Unauthenticated
from shared.http.caller import Caller
from shared.http.errors import respond
from shared.http.socket_door import SocketDoor
from shared.http.socket_words import Auth, Ref

log = structlog.get_logger(__name__)

router = APIRouter()


@router.websocket("/voice/realtime")
async def talk(socket: WebSocket) -> None:
    """Let the device in, then serve it until one side closes."""
    door = SocketDoor(socket)
    hearers = _actions(socket).hearers
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
        await _close(socket, code_of(failure), failure.code)
    except (WebSocketDisconnect, OSError):
        if device is not None:
            hearers.gone(device)
    else:
        await device.serve(ref)


def code_of(failure: ExpectedFailure) -> CloseCode:
    """Why a socket is closed before anything was said."""
    if isinstance(failure, Unauthenticated):
        return CloseCode.UNAUTHENTICATED
    if isinstance(failure, Forbidden):
        return CloseCode.FORBIDDEN
    return CloseCode.TOO_MANY if isinstance(failure, LimitReached) else CloseCode.RECONNECT


def _opened(socket: WebSocket, door: SocketDoor, caller: Caller) -> RealtimeSocket:
    """Raises TooManyVoiceSockets."""
    device = RealtimeSocket(socket, _actions(socket), caller, door=door)
    _actions(socket).hearers.open(device)
    return device


def _actions(socket: WebSocket) -> Actions:
    actions: Actions = socket.app.state.actions
    return actions


async def _shown_first(door: SocketDoor) -> tuple[Caller, Ref]:
    """The token in the first message, which must come within seconds and must be `auth`."""
    word, ref, _ = read_word(await door.first_text(LARGEST_MESSAGE))
    if not isinstance(word, Auth):
        raise Unauthenticated("The first message must be `auth`.")
    return await door.caller(word.token), ref


async def _close(socket: WebSocket, code: CloseCode, reason: str) -> None:
    try:
        await socket.close(int(code), reason)
    except (RuntimeError, OSError):
        log.debug("socket_gone_already")
