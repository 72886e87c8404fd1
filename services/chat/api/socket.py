"""`WS /chat/ws`: one socket for each device.

A device shows its token before the socket opens (`Authorization`, or the subprotocol
`bearer.<token>`, which is all that a browser's page can send) or in its first message; never in the
URL. Then it says words (`socket_words`) and hears the events of the sessions that it has joined.
"""

from __future__ import annotations

import asyncio

import structlog
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from services.chat.actions import Actions
from services.chat.actions.devices import CloseCode
from services.chat.api.device import Device
from services.chat.api.socket_words import LARGEST_FRAME_BYTES, Auth, Ref, read_word
from shared.errors import (
    DependencyUnavailable,
    ExpectedFailure,
    Forbidden,
    LimitReached,
    Unauthenticated,
)
from shared.http.caller import Caller, bearer_token
from shared.http.errors import respond
from shared.news.ended_sessions import EndedSessions
from shared.tokens import TokenVerifier

log = structlog.get_logger(__name__)

router = APIRouter()

SUBPROTOCOL = "companion.v1"
_TOKEN_IN_SUBPROTOCOL = "bearer."  # noqa: S105 - no token but how it is announced
_FIRST_WORD_SECONDS = 10.0


@router.websocket("/chat/ws")
async def talk(socket: WebSocket) -> None:
    """Let the device in, then serve it until one side closes."""
    try:
        caller = await _shown_before(socket)
        device = _opened(socket, caller) if caller is not None else None
    except ExpectedFailure as failure:
        await socket.send_denial_response(respond(failure))
        return
    offered = socket.scope.get("subprotocols", ())
    try:
        await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        ref: Ref = None
        if device is None:
            caller, ref = await _shown_first(socket)
            device = _opened(socket, caller)
    except ExpectedFailure as failure:
        await _close(socket, _code_of(failure), failure.code)
    except (WebSocketDisconnect, OSError):
        if device is not None:
            await _actions(socket).devices.gone(device)
    else:
        await device.serve(ref)


def _opened(socket: WebSocket, caller: Caller) -> Device:
    """Raises TooManySockets."""
    device = Device(socket, _actions(socket), caller, door=_Door(socket))
    _actions(socket).devices.open(device)
    return device


def _actions(socket: WebSocket) -> Actions:
    actions: Actions = socket.app.state.actions
    return actions


class _Door:
    """Checks tokens as the routes do: signature, scope, and whether the session has ended."""

    def __init__(self, socket: WebSocket) -> None:
        self._verifier: TokenVerifier = socket.app.state.verifier
        self._ended: EndedSessions = socket.app.state.ended_sessions
        self._scope: str = socket.app.state.scope

    async def caller(self, token: str) -> Caller:
        """Raises Unauthenticated, ScopeMissing, or Unavailable when no key can be had."""
        caller = Caller(await self._verifier.verify(token), token)
        caller.require(self._scope)
        try:
            await self._ended.check(caller.identity.sign_in_id)
        except DependencyUnavailable:
            # As for the other routes of chat: by its signature. What is missed is looked up later.
            log.info("ended_sessions_not_asked")
        return caller


async def _shown_before(socket: WebSocket) -> Caller | None:
    header = socket.headers.get("authorization")
    token = bearer_token(header) if header is not None else _token_among(socket)
    return await _Door(socket).caller(token) if token is not None else None


def _token_among(socket: WebSocket) -> str | None:
    """The token in the subprotocols that the device offers: `bearer.<token>`, or the two apart."""
    offered: list[str] = list(socket.scope.get("subprotocols", ()))
    for place, name in enumerate(offered):
        if name.startswith(_TOKEN_IN_SUBPROTOCOL):
            return name.removeprefix(_TOKEN_IN_SUBPROTOCOL)
        if name == "bearer" and place + 1 < len(offered):
            return offered[place + 1]
    return None


async def _shown_first(socket: WebSocket) -> tuple[Caller, Ref]:
    """The token in the first message, which must come within seconds and must be `auth`."""
    try:
        async with asyncio.timeout(_FIRST_WORD_SECONDS):
            text = await socket.receive_text()
    except TimeoutError as error:
        raise Unauthenticated("No token was shown.") from error
    except KeyError as error:
        raise Unauthenticated("The first message must be text.") from error
    if len(text) > LARGEST_FRAME_BYTES:
        raise Unauthenticated("The first message is too long.")
    word, ref, _ = read_word(text)
    if not isinstance(word, Auth):
        raise Unauthenticated("The first message must be `auth`.")
    return await _Door(socket).caller(word.token), ref


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
