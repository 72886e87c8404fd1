"""Who is at a WebSocket: the checks that routes do, for doors that stay open.

A device shows its token before the socket opens (`Authorization`, or the subprotocol
`bearer.<token>`, which is all that a browser's page can send) or in its first message, which its
service reads; never in the URL.
"""

from __future__ import annotations

import asyncio

import structlog
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from shared.errors import DependencyUnavailable, Unauthenticated
from shared.http.caller import Caller, bearer_token
from shared.news.ended_sessions import EndedSessions
from shared.tokens import TokenVerifier

log = structlog.get_logger(__name__)

SUBPROTOCOL = "companion.v1"
FIRST_WORD_SECONDS = 10.0  # within them, a device that came without a token shows it
_TOKEN_IN_SUBPROTOCOL = "bearer."  # noqa: S105 - no token but how it is announced


class SocketDoor:
    """Checks tokens as the routes do: signature, scope, and whether the session has ended."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._verifier: TokenVerifier = socket.app.state.verifier
        self._ended: EndedSessions = socket.app.state.ended_sessions
        self._scope: str = socket.app.state.scope

    async def shown_before(self) -> Caller | None:
        """Who opens the socket; None when no token came with the opening. A blank header is none.

        Raises what `caller` raises.
        """
        header = self._socket.headers.get("authorization", "").strip()
        token = bearer_token(header) if header else self._token_offered()
        return await self.caller(token) if token is not None else None

    async def first_text(self, most: int) -> str:
        """The first message, in which a device that came without a token shows it.

        Raises Unauthenticated when none comes within seconds, or it is no text of so many
        characters at most.
        """
        try:
            async with asyncio.timeout(FIRST_WORD_SECONDS):
                text = await self._socket.receive_text()
        except TimeoutError as error:
            raise Unauthenticated("No token was shown.") from error
        except KeyError as error:
            raise Unauthenticated("The first message must be text.") from error
        if len(text) > most:
            raise Unauthenticated("The first message is too long.")
        return text

    async def caller(self, token: str) -> Caller:
        """Raises Unauthenticated, ScopeMissing, or Unavailable when no key can be had."""
        caller = Caller(await self._verifier.verify(token), token)
        caller.require(self._scope)
        try:
            await self._ended.check(caller.identity.sign_in_id)
        except DependencyUnavailable:
            # As for the routes: by its signature. What is missed is looked up later.
            log.info("ended_sessions_not_asked")
        return caller

    def subprotocol(self) -> str | None:
        """What to accept the socket with: ours when the device offers it."""
        return SUBPROTOCOL if SUBPROTOCOL in self._socket.scope.get("subprotocols", ()) else None

    def _token_offered(self) -> str | None:
        """The token in the subprotocols: `bearer.<token>`, or the two apart."""
        offered: list[str] = list(self._socket.scope.get("subprotocols", ()))
        for place, name in enumerate(offered):
            if name.startswith(_TOKEN_IN_SUBPROTOCOL):
                return name.removeprefix(_TOKEN_IN_SUBPROTOCOL)
            if name == "bearer" and place + 1 < len(offered):
                return offered[place + 1]
        return None


def bug_of(task: asyncio.Task[None]) -> BaseException | None:
    """What nobody foresaw; that the device went away is nothing of the kind."""
    if not task.done() or task.cancelled():
        return None
    error = task.exception()
    return None if isinstance(error, WebSocketDisconnect | OSError) else error
