"""A turn as server-sent events, wherever it runs. It begins with `: ping` at once, so that a client
knows within a round trip that its request was taken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog
from starlette.responses import Response

from services.chat.api.follower import Follower, Receive, Send, cancelled, watch
from services.chat.api.live_events import as_sse, beside_sse
from services.chat.api.message_body import to_json
from services.chat.domain.conversation import SessionId
from services.chat.domain.devices import Devices
from services.chat.domain.live import LiveTurn
from services.chat.domain.spoken_turn import SpokenTurn
from shared.close_codes import CloseCode
from shared.ids import UserId

log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 32
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class EventStream(Response):
    """Follows one turn, from the event after `after` on. A client that goes away does not end it:
    the answer is kept, and can be followed again."""

    def __init__(self, turn: LiveTurn, headers: Mapping[str, str], *, after: int = 0) -> None:
        super().__init__(headers=dict(headers), media_type="text/event-stream")
        self._turn = turn
        self._after = after
        self._follower: Follower | None = None
        self._beside: list[bytes] = []

    async def __call__(self, _scope: Any, receive: Receive, send: Send) -> None:
        follower = self._follower = Follower(self._turn, send, self._told, after=self._after)
        watching = asyncio.create_task(watch(receive, follower.drop))
        try:
            await follower.write(self._all_headers())
        finally:
            # It leads back here: a circle would keep the whole answer until the collector comes by.
            self._follower = None
            await cancelled(watching)

    def _told(self, after: int) -> tuple[bytes, int]:
        # No more at once than a slow client should make us hold.
        events = self._turn.said(after)[:_MOST_AT_ONCE]
        told = [as_sse(after + i, name, data) for i, (name, data) in enumerate(events, 1)]
        if self._beside:
            beside, self._beside = self._beside, []
            return b"".join(beside + told), after + len(told)
        return b"".join(told), after + len(told)

    def tell(self, event: str, data: Any) -> None:
        """Something beside the turn. It has no number: whoever resumes does not hear it again."""
        self._beside.append(beside_sse(event, to_json(data)))
        self._turn.bell.ring()

    def _all_headers(self) -> list[tuple[bytes, bytes]]:
        own = {name for name, _ in _HEADERS} | {b"content-length"}
        return [*_HEADERS, *(pair for pair in self.raw_headers if pair[0] not in own)]


class AskedStream(EventStream):
    """The stream by which an answer was asked for. Fits `domain.devices.Hearer`."""

    def __init__(
        self, turn: LiveTurn, headers: Mapping[str, str], devices: Devices, *, user_id: UserId
    ) -> None:
        super().__init__(turn, headers)
        self.user_id = user_id
        self._devices = devices

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self._devices.heard_by(self)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._devices.unheard_by(self)


class SpokenStream(AskedStream):
    """The stream of an answer that is spoken too. Audio has no number: whoever resumes does not
    hear it again. Who leaves ends the audio, not the text."""

    def __init__(
        self, turn: SpokenTurn, headers: Mapping[str, str], devices: Devices, *, user_id: UserId
    ) -> None:
        super().__init__(turn, headers, devices, user_id=user_id)
        self._spoken = turn

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._spoken.leave()

    def _told(self, after: int) -> tuple[bytes, int]:
        told, position = super()._told(after)
        heard = [beside_sse(name, data) for name, data in self._spoken.heard()]
        return b"".join([told, *heard]), position


class FollowStream(EventStream):
    """A stream by which somebody follows what may be another sign-in's turn: it ends with their own
    sign-in, and when this replica is about to go away. Fits `domain.devices.Device`."""

    def __init__(
        self, turn: LiveTurn, devices: Devices, *, user_id: UserId, sign_in_id: UUID, after: int
    ) -> None:
        super().__init__(turn, {}, after=after)
        self.user_id = user_id
        self.sign_in_id = sign_in_id
        self._devices = devices

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Raises TooManySockets before it has begun to answer."""
        self._devices.open(self)
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._devices.gone(self)

    def close(self, code: CloseCode, reason: str) -> None:
        """The client sees a stream that breaks off, asks again, and is told why."""
        log.info("follower_sent_away", code=int(code), reason=reason)
        if self._follower is not None:
            self._follower.drop()

    def begun(self, turn: LiveTurn) -> None:
        """It is in no room."""

    def emitted(self, session_id: SessionId, message: bytes) -> None:
        """It is in no room."""

    def look(self) -> None:
        """It looks after itself."""
