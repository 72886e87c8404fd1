"""What the routes that stand in for OpenAI's over all vendors share: reading a request, headers,
errors in OpenAI's shape."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import orjson

from services.chat.actions import Actions
from services.chat.actions.answer_call import Call, ReplayedCall
from services.chat.api.call_stream import Write, stream_call, whole_call
from services.chat.api.fields import Fields, json_object, require_writable
from services.chat.api.follower import Receive, Send, left
from services.chat.api.openai_errors import error_answer
from services.chat.domain.errors import AnswerEnded
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Hold, Outcome
from services.chat.domain.turn_events import Answered, Broken, FellBack, TurnEvent
from shared.errors import ExpectedFailure, after_counting
from shared.http.caller import Caller, caller_of, on_behalf_of, refresh_hint
from shared.http.door import Scope
from shared.http.idempotency_key import key_in
from shared.http.openai_limits import openai_limit_headers
from shared.http.ratelimit import rate_limit_headers
from shared.values import dataclass

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_FALLBACK = "x-companion-fallback-from"
# What of a request goes to the vendor, or back to the client, as it was sent.
_REPEATED = ("input", "metadata", "reasoning", "response_format", "text", "tool_choice", "tools")
_ENDED_EARLY = frozenset(outcome.value for outcome in Outcome if outcome is not Outcome.DONE)

Handle = Callable[["Asking", Receive, Send], Awaitable[None]]


class SdkRequest(Protocol):
    """A request in one of the wires, in our words."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool: ...
    @property
    def parts(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Form:
    """How one of the wires tells an answer: event by event, and whole."""

    writer: Callable[[Hold], Write]
    document: Callable[[Hold, Answered], Any]


class Asking:
    """One request of an SDK: who asks, what, and the way back."""

    def __init__(self, scope: Scope, caller: Caller, fields: Fields, body: bytes) -> None:
        self.caller = caller
        self.fields = fields
        self.body = body
        self.actions: Actions = scope["app"].state.actions
        self._path = scope["path"].encode()
        self._headers = dict(scope["headers"])

    @property
    def idempotency_key(self) -> str | None:
        """Raises BadParameter for one that can't be a key."""
        value: bytes | None = self._headers.get(b"idempotency-key")
        return key_in(None if value is None else value.decode("latin-1"))

    @property
    def request_hash(self) -> bytes:
        """What makes two requests the same request."""
        return hashlib.sha256(b"\0".join((self._path, self.body))).digest()


def openai_shaped(handle: Handle) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The plain ASGI route around `handle`: its failures have OpenAI's shape."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            caller = await caller_of(scope)
            body = await _body(receive)
            fields = json_object(body)
            require_writable(fields, *_REPEATED)
            asking = Asking(scope, caller, fields, body)
            await handle(asking, receive, send)
        except ExpectedFailure as failure:
            status, document, headers = error_answer(failure)
            await send_json(send, document, headers, status)

    return answer


async def answer(
    asking: Asking, request: SdkRequest, form: Form, receive: Receive, send: Send
) -> None:
    """Have the request answered, and tell the answer as the client wants it."""
    asked = await asking.actions.answer_call(
        Call(
            by=on_behalf_of(asking.caller),
            tier=asking.caller.tier,
            model=request.model,
            stream=request.stream,
            idempotency_key=asking.idempotency_key,
            request_hash=asking.request_hash,
            **request.parts,
        ),
        partial(left, receive),
    )
    is_replayed = isinstance(asked, ReplayedCall)
    turn = asked.turn() if isinstance(asked, ReplayedCall) else asked

    def headers() -> dict[str, str]:
        if is_replayed:
            # By which tier it was let in then tells nothing about the token of now.
            return turn_headers(turn) | {"idempotency-replayed": "true"}
        return turn_headers(turn) | refresh_hint(asking.caller, turn.hold.tier)

    if request.stream:
        write = form.writer(turn.hold)
        await stream_call(
            turn,
            receive,
            send,
            headers=lambda: [*STREAM_HEADERS, *encoded(headers())],
            write=lambda event: write(as_whole(event)),
        )
        return
    last = as_whole(await whole_call(turn, receive))
    if isinstance(last, Broken):
        raise after_counting(last.failure, turn.limits)
    assert isinstance(last, Answered)
    await send_json(send, form.document(turn.hold, last), headers() | answer_headers(last))


def as_whole(event: TurnEvent) -> TurnEvent:
    """An answer that was ended from here is none: in these wires it would look complete."""
    if isinstance(event, Answered) and event.finish_reason in _ENDED_EARLY:
        return Broken(AnswerEnded(), event.message)
    return event


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


def turn_headers(turn: RunningTurn) -> dict[str, str]:
    """What every answer of a turn says beside its body, as far as the turn has come."""
    now = datetime.now(UTC)
    headers = {
        **rate_limit_headers(turn.limits, now),
        **openai_limit_headers(turn.limits, now),
        "x-companion-provider": turn.provider,
    }
    # It happens before anything else, if at all.
    second = turn.events[1] if len(turn.events) > 1 else None
    return headers | ({_FALLBACK: second.fallback_from} if isinstance(second, FellBack) else {})


def answer_headers(answered: Answered) -> dict[str, str]:
    """What only a whole answer can say."""
    message = answered.message
    headers = {"x-companion-provider": message.provider or ""}
    if answered.fallback_from is not None:
        headers[_FALLBACK] = answered.fallback_from
    if message.cost_microusd is not None:
        headers["x-companion-cost-microusd"] = str(message.cost_microusd)
    return headers


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them."""
    return [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]


async def send_json(
    send: Send, document: Any, headers: Mapping[str, str], status: int = 200
) -> None:
    """A whole answer."""
    await send_bytes(send, orjson.dumps(document), headers, status)


async def send_bytes(
    send: Send, body: bytes, headers: Mapping[str, str], status: int = 200
) -> None:
    """A whole answer that is JSON already."""
    start = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *encoded(headers),
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
