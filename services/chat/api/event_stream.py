"""A running turn as server-sent events.

The door relays: per piece of text one small encode and one send, no model, no log line. It begins
with `: ping` at once, so that a client knows within a round trip that its request was taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson
from starlette.responses import Response

from services.chat.actions.running_turn import Answered, Broken, Delta, RunningTurn, TurnEvent
from services.chat.api.message_body import MessageBody
from services.chat.domain.turn import Outcome
from shared.http.errors import problem_of

_PING = b": ping\n\n"
_PING_SECONDS = 15.0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class EventStream(Response):
    """Follows one turn. A client that goes away ends the vendor's work: nobody reads it."""

    def __init__(self, turn: RunningTurn, headers: Mapping[str, str]) -> None:
        super().__init__(headers=dict(headers), media_type="text/event-stream")
        self._turn = turn
        self._sent = 0

    async def __call__(self, _scope: Any, receive: Any, send: Send) -> None:
        gone = asyncio.create_task(_wait_until_gone(receive))
        relay = asyncio.create_task(self._relay(send))
        ping = asyncio.create_task(_keep_alive(send, relay))
        try:
            await asyncio.wait({gone, relay}, return_when=asyncio.FIRST_COMPLETED)
            if not relay.done():
                self._turn.end(Outcome.CLIENT_GONE)
        except asyncio.CancelledError:
            self._turn.end(Outcome.CLIENT_GONE)
            raise
        finally:
            for task in (gone, relay, ping):
                task.cancel()
            await asyncio.gather(gone, relay, ping, return_exceptions=True)
        if relay.done() and not relay.cancelled() and (error := relay.exception()):
            raise error

    async def _relay(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._all_headers()})
        await _write(send, _PING + self._frame("start", self._start()))
        async for event in self._turn.follow():
            if isinstance(event, Delta):
                await _write(send, self._frame("delta", {"text": event.text}))
            else:
                await _write(send, self._last(event))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _all_headers(self) -> list[tuple[bytes, bytes]]:
        own = {name for name, _ in _HEADERS} | {b"content-length"}
        return [*_HEADERS, *(pair for pair in self.raw_headers if pair[0] not in own)]

    def _start(self) -> dict[str, Any]:
        hold = self._turn.hold
        return {
            "turn_id": hold.id,
            "session_id": hold.session_id,
            "question_id": hold.question_id,
            "message_id": hold.answer_id,
            "provider": hold.provider,
            "model": hold.model,
        }

    def _last(self, event: TurnEvent) -> bytes:
        if isinstance(event, Answered):
            message = MessageBody.of(event.message).model_dump()
            usage = {
                "usage": message["usage"],
                "cost_microusd": message["cost_microusd"],
                "cost_usd": message["cost_usd"],
            }
            done = {"message": message, "finish_reason": event.finish_reason}
            return self._frame("usage", usage) + self._frame("done", done)
        assert isinstance(event, Broken)
        _, problem, _ = problem_of(event.failure)
        if event.message is None:
            return self._frame("error", problem)
        message = MessageBody.of(event.message).model_dump()
        return self._frame("interrupted", {"problem": problem, "message": message})

    def _frame(self, name: str, data: Mapping[str, Any]) -> bytes:
        self._sent += 1
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (
            self._sent,
            name.encode(),
            orjson.dumps(data),
        )


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _keep_alive(send: Send, relay: asyncio.Task[None]) -> None:
    while not relay.done():
        await asyncio.sleep(_PING_SECONDS)
        if not relay.done():
            await _write(send, _PING)


async def _wait_until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
