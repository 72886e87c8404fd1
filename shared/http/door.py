"""The outermost ASGI layer of every web process, in one pass: request id, size, log, metrics.

One plain ASGI callable: Starlette's `BaseHTTPMiddleware` costs more than the rest of a request.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from shared.errors import TooLarge
from shared.events.base import current_request_id, current_traceparent
from shared.http.errors import bug_response, coded_response, respond, vendor_failed
from shared.ids import uuid7
from shared.telemetry import tracing
from shared.telemetry.metrics import RequestMetrics
from shared.telemetry.request_log import RequestLog

if TYPE_CHECKING:
    from shared.telemetry.spans import Span, Tracing

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger("door")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}\Z")
_OF_VENDORS = 502
_AS_IT_IS = frozenset({b"", b"identity"})
# Asked every few seconds by whoever looks after the process.
_UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Door:
    """Wraps an application. `largest_body` is in bytes; `larger_bodies` names the paths that take
    more."""

    def __init__(
        self,
        app: App,
        *,
        service: str,
        largest_body: int,
        sandbox: bool,
        larger_bodies: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._largest_body = largest_body
        self._larger_bodies = dict(larger_bodies or {})
        self._extra = [(b"x-sandbox", b"true")] if sandbox else []
        self._log = RequestLog(service)
        self._metrics = RequestMetrics(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        span = None if tracing.active is None else _begun(tracing.active, scope, headers)
        request = _Request(
            _known_or_new_id(headers.get(b"x-request-id")),
            _known_or_new_trace(headers.get(b"traceparent")) if span is None else span.traceparent,
            _declared_length(headers),
            b"content-encoding" in headers and _is_coded(scope["headers"]),
            span,
        )
        current_request_id.set(request.id)
        current_traceparent.set(request.trace)
        vendor_failed.set(False)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send, request)
            return
        await self._http(scope, receive, send, request)

    async def _socket(self, scope: Scope, receive: Receive, send: Send, request: _Request) -> None:
        marks = [(b"x-request-id", request.id.encode()), *self._extra]

        async def send_marked(message: Message) -> None:
            if message["type"] in {"websocket.accept", "websocket.http.response.start"}:
                message["headers"] = [*message.get("headers", ()), *marks]
            await send(message)

        self._metrics.open_sockets.inc()
        try:
            await self._app(scope, receive, send_marked)
        finally:
            self._metrics.open_sockets.dec()
            if request.span is not None:
                request.span.end(name=f"SOCKET {_route(scope)}", attributes=_traced(scope, request))

    async def _http(self, scope: Scope, receive: Receive, send: Send, request: _Request) -> None:
        started = time.perf_counter()
        status = 0
        largest = self._larger_bodies.get(scope["path"], self._largest_body)
        body = _Counted(receive, largest)
        marks = [(b"x-request-id", request.id.encode()), *self._extra]

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                # Whatever the application makes of a body that broke off, this is the reason.
                body.complain_once()
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *marks]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            if request.length > largest:
                refusal = respond(_too_large(largest))
                await refusal(scope, receive, send_marked)
            elif request.is_coded:
                await coded_response()(scope, receive, send_marked)
            else:
                await self._app(scope, body, send_marked)
        except _BodyTooLarge:
            body.complained()
            if status == 0:
                await respond(_too_large(largest))(scope, receive, send_marked)
        except Exception:
            log.exception("request_failed", method=scope["method"], route=_route(scope))
            if status == 0:
                await bug_response()(scope, receive, send_marked)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, status, time.perf_counter() - started, request)

    def _record(self, scope: Scope, status: int, seconds: float, request: _Request) -> None:
        method, route = scope["method"], _route(scope)
        self._metrics.answered(method, route, status, seconds)
        # Doors with a vendor's own statuses pass on its 500, 503 or 529: no failure of ours.
        if status >= 500 and status != _OF_VENDORS and vendor_failed.get():
            self._metrics.vendor_failures.inc()
        if request.span is not None:
            request.span.end(
                name=f"{method} {route}",
                attributes={**_traced(scope, request), "http.response.status_code": status},
                failed=str(status) if status >= 500 or status == 0 else None,
            )
        self._log.write(
            method=method,
            route=route,
            status=status,
            seconds=seconds,
            request_id=request.id,
            traceparent=request.trace,
        )


def _too_large(largest: int) -> TooLarge:
    return TooLarge(f"The body is larger than {largest} bytes.", largest_body_bytes=largest)


class _Request(NamedTuple):
    """What the door reads of a request's head."""

    id: str
    trace: str
    length: int
    is_coded: bool
    span: Span | None


class _BodyTooLarge(Exception):
    pass


class _Counted:
    """A `receive` that stops reading a body which grows beyond its limit."""

    def __init__(self, receive: Receive, largest: int) -> None:
        self._receive = receive
        self._left = largest
        self._complaint: _BodyTooLarge | None = None

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._complaint = _BodyTooLarge()
                raise self._complaint
        return message

    def complained(self) -> None:
        """The complaint has been heard."""
        self._complaint = None

    def complain_once(self) -> None:
        """Raise again what an application may have taken for a failure of its own."""
        complaint, self._complaint = self._complaint, None
        if complaint is not None:
            raise complaint


def _declared_length(headers: dict[bytes, bytes]) -> int:
    value = headers.get(b"content-length", b"0")
    # More digits than any length has; Python refuses to read very many.
    return int(value[:19]) if value.isdigit() else 0


def _is_coded(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a body comes that is not as it is, by whichever of its headers."""
    codings = b",".join(value for name, value in headers if name == b"content-encoding").lower()
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )
    return has_body and any(coding.strip() not in _AS_IT_IS for coding in codings.split(b","))


def _route(scope: Scope) -> str:
    # The template, never the path: paths hold ids and would make a label per user.
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"


def _begun(traced: Tracing, scope: Scope, headers: Mapping[bytes, bytes]) -> Span | None:
    if scope["path"] in _UNTRACED:
        return None
    given = headers.get(b"traceparent", b"")
    within = given.decode() if _TRACEPARENT.match(given) else None
    return traced.begin(scope.get("method", "SOCKET"), tracing.Kind.SERVER, within=within)


def _traced(scope: Scope, request: _Request) -> Mapping[str, str]:
    return {
        "http.request.method": scope.get("method", "GET"),
        "http.route": _route(scope),
        "companion.request_id": request.id,
    }


def _known_or_new_id(given: bytes | None) -> str:
    if given is not None and _REQUEST_ID.match(given):
        return given.decode()
    return str(uuid7())


def _known_or_new_trace(given: bytes | None) -> str:
    """W3C Trace Context: keep the caller's trace, or begin one."""
    if given is not None and _TRACEPARENT.match(given):
        return given.decode()
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
