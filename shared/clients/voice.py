"""voice, asked on its internal port to speak an answer while it is written.

Fits the port of chat by its shape alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

import orjson
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from shared.clients.hang_up import hang_up
from shared.errors import (
    Conflict,
    DependencyUnavailable,
    ExpectedFailure,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    NotInTier,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)
from shared.identity import USER_HEADER, OnBehalfOf, ServiceIdentity
from shared.telemetry.tracing import calling

log = structlog.get_logger(__name__)

_AUDIENCE = "voice"
# The user's question waits meanwhile, and voice only looks at a few rows, or at the vendor's list.
_READY_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
_LARGEST_FRAME = 8 << 20
_MOST_FRAMES_WAITING = 4  # further ones wait at voice, and so at the vendor
_OF_THE_USER = frozenset({"session_ended", "scope_missing"})
_OF_THE_DOCUMENT = frozenset({"type", "title", "status", "detail", "code", "request_id"})


class VoiceLine:
    """An open line: sentences go there, and audio comes back."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.prepares = False  # whether voice said that it can

    async def prepare(self) -> None:
        """The first sentence is being written: make ready to speak it. Costs nothing. Raises
        DependencyUnavailable."""
        if self.prepares:
            await self._send({"op": "prepare"})

    async def say(self, sentence: str) -> None:
        """The next sentence. Returns when the line takes more. Raises DependencyUnavailable."""
        await self._send({"op": "say", "text": sentence})

    async def finish(self) -> None:
        """There are no more sentences. Raises DependencyUnavailable."""
        await self._send({"op": "finish"})

    async def stop(self) -> None:
        """Be silent now; how it ended is still told. Raises DependencyUnavailable."""
        await self._send({"op": "stop"})

    async def hear(self) -> tuple[str, bytes]:
        """The next event: its name, and its data as JSON. Raises DependencyUnavailable when the
        line breaks."""
        try:
            frame = await self._connection.recv(decode=False)
        except ConnectionClosed as closed:
            raise DependencyUnavailable("voice") from closed
        assert isinstance(frame, bytes)
        name, _, data = frame.partition(b" ")
        return name.decode("ascii", "replace"), data

    async def close(self) -> None:
        """Leave. What was said until now is settled by voice."""
        await hang_up(self._connection)

    async def _send(self, word: Mapping[str, Any]) -> None:
        try:
            await self._connection.send(orjson.dumps(word).decode())
        except ConnectionClosed as closed:
            raise DependencyUnavailable("voice") from closed


class VoiceLines:
    """Opens lines to voice."""

    def __init__(self, base_url: str, me: ServiceIdentity) -> None:
        self._url = f"ws{base_url.rstrip('/').removeprefix('http')}/internal/speech"
        self._me = me

    async def line(self, manner: Mapping[str, Any], *, by: OnBehalfOf) -> VoiceLine:
        """A line for one answer, with a voice that the user may hear; nothing is charged yet.

        Raises what voice refuses, in the family that it has there, and DependencyUnavailable.
        """
        try:
            async with asyncio.timeout(_READY_SECONDS):
                connection = await self._opened(by)
                return await _ready(VoiceLine(connection), manner)
        except InvalidStatus as refused:
            document = _document(bytes(refused.response.body))
            if document.get("code") not in _OF_THE_USER:
                # It is about how we are set up, and nothing that a user could mend.
                log.warning("voice_refused_us", status=refused.response.status_code)
                raise DependencyUnavailable("voice") from refused
            _refuse(document)
        except (InvalidHandshake, OSError, EOFError) as error:
            raise DependencyUnavailable("voice") from error

    async def _opened(self, by: OnBehalfOf) -> ClientConnection:
        proofs = {
            "authorization": f"Bearer {self._me.token_for(_AUDIENCE)}",
            USER_HEADER: by.access_token,
            "x-request-id": by.request_id,
        }
        with calling("open a line to voice") as trace:
            return await connect(
                self._url,
                additional_headers=proofs | trace,
                user_agent_header=None,
                proxy=None,
                compression=None,
                max_size=_LARGEST_FRAME,
                max_queue=_MOST_FRAMES_WAITING,
                open_timeout=None,
                close_timeout=_CLOSE_SECONDS,
            )


async def _ready(line: VoiceLine, manner: Mapping[str, Any]) -> VoiceLine:
    try:
        await line._send({"op": "manner", **manner})
        name, data = await line.hear()
        if name != "ready":
            _refuse(_document(data).get("problem"))
        line.prepares = _document(data).get("prepares") is True
    except BaseException:
        await line.close()
        raise
    return line


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _refuse(problem: Any) -> NoReturn:
    """Voice's problem as a failure of our own request, with its code and its facts."""
    document: Mapping[str, Any] = problem if isinstance(problem, dict) else {}
    code, message = document.get("code"), document.get("detail")
    if not isinstance(code, str) or not isinstance(message, str):
        raise DependencyUnavailable("voice")
    facts = {name: value for name, value in document.items() if name not in _OF_THE_DOCUMENT}
    failure = _failure_of(document.get("status"), message, facts)
    failure.code = code  # type: ignore[misc]  # voice's own, of this one failure
    raise failure


def _failure_of(status: Any, message: str, facts: dict[str, Any]) -> ExpectedFailure:
    seconds = facts.pop("retry_after", None)
    wait = timedelta(seconds=seconds) if isinstance(seconds, int) else timedelta(seconds=2)
    if status == 429:
        return LimitReached(message, retry_after=wait, **facts)
    if status == 502:
        return UpstreamFailed(message, retry_after=wait if seconds else None, **facts)
    family = _FAMILIES.get(status)
    return family(message, **facts) if family else Unavailable(message, retry_after=wait, **facts)


_FAMILIES: Mapping[Any, type[ExpectedFailure]] = {
    401: Unauthenticated,
    402: NotInTier,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
}
