"""What the doors that stand in for one vendor share: its SDK's token, errors in its shape, and the
relay between the client's socket and the vendor's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from services.chat.actions import Actions
from services.chat.actions.relay_call import Relaying
from services.chat.api.dropin_errors import Told, VendorWords, told, told_refusal
from services.chat.domain.raw_calls import RawRefusal
from services.chat.domain.relayed import (
    VENDOR_HEADERS,
    AnswerHead,
    ClientCall,
    RepeatedAnswer,
)
from shared.errors import ExpectedFailure, TooLarge
from shared.events.base import current_request_id
from shared.http.caller import Caller, caller_with, on_behalf_of, refresh_hint, sdk_token
from shared.http.door import Receive, Send
from shared.http.idempotency_key import key_in
from shared.http.ratelimit import rate_limit_headers
from shared.lenient_json import to_json
from shared.limit_state import LimitState
from shared.values import dataclass
from shared.vendors.dropins import BadParameter, UnreadableBody

LARGEST_BODY = 20 << 20
_NO_BUFFERING = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Framing(Protocol):
    """How an answer's bytes reach the client: as the vendor wrote them, but for what the client did
    not ask for, and for how a stream tells that it failed."""

    @property
    def media_type(self) -> str | None:
        """Of what the client gets; None is the vendor's."""
        ...

    def shown(self, data: bytes) -> bytes: ...
    def failed(self, error: Mapping[str, Any]) -> bytes: ...
    def end(self) -> bytes: ...


class DropInCall(ClientCall, Protocol):
    """A client's call with the way its answer is framed."""

    def framing(self) -> Framing: ...


@dataclass(frozen=True, slots=True)
class Manner:
    """How one vendor's interface speaks beside its calls. `key_header` is where its SDK puts what
    it takes for a key, `id_header` where it looks for the request's id, if not in `x-request-id`.
    """

    surface: str
    key_header: str
    document: Callable[[Told], dict[str, Any]]
    words: Callable[[Mapping[str, Any]], VendorWords]
    limit_headers: Callable[[Sequence[LimitState], datetime], dict[str, str]]
    id_header: str | None = None

    def error(self, failure: ExpectedFailure) -> Response:
        """One of our failures as an answer."""
        return self._with_limits(self._response(told(failure)), failure)

    def refusal(self, refusal: RawRefusal) -> Response:
        """The vendor's refusal as an answer."""
        response = self._response(told_refusal(refusal, self.words))
        return self._with_limits(response, refusal.failure)

    def _with_limits(self, response: Response, failure: ExpectedFailure) -> Response:
        response.headers.update(self.limit_headers(failure.limits, datetime.now(UTC)))
        return response

    def error_document(self, failure: ExpectedFailure) -> Mapping[str, Any]:
        """One of our failures, to be told within an answer."""
        return self.document(told(failure))

    def _response(self, said: Told) -> Response:
        body = to_json(self.document(said))
        headers = {**self.id_headers(), **said.headers}
        return Response(body, said.status, headers, media_type="application/json")

    def id_headers(self) -> dict[str, str]:
        """Our id of the request, where the vendor tells none of its own."""
        id_ = current_request_id.get()
        return {self.id_header: id_} if self.id_header and id_ else {}

    def answer_headers(self, head: AnswerHead) -> dict[str, str]:
        """What a good answer says beside its body."""
        now = datetime.now(UTC)
        kept = {name: head.vendor_headers.get(name, "") for name in VENDOR_HEADERS}
        return {
            **self.id_headers(),
            **{name: value for name, value in kept.items() if value},
            **rate_limit_headers(head.limits, now),
            **self.limit_headers(head.limits, now),
        }


def route_class(manner: Manner) -> type[APIRoute]:
    """Routes whose expected failures have the vendor's shape, also those of reading a request."""

    class DropInRoute(APIRoute):
        # Each of them lets its caller in by `caller_in`.
        asks_for_token = True

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    answer = await handle(request)
                    answer.headers.update(manner.id_headers())
                    return answer
                except ExpectedFailure as failure:
                    return manner.error(failure)
                except RequestValidationError as failure:
                    # Bodies are read by the calls themselves: it is a part of the address.
                    name = str(failure.errors()[0]["loc"][-1])
                    return manner.error(BadParameter(name, "as it is documented"))

            return handled

    return DropInRoute


async def caller_in(request: Request, manner: Manner) -> Caller:
    """Whose token it is, wherever the SDK put it. Raises Unauthenticated, or ScopeMissing."""
    return await caller_with(request.app, sdk_token(request.headers, manner.key_header))


async def body_of(request: Request) -> bytes:
    """The body. Raises TooLarge."""
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > LARGEST_BODY:
                raise TooLarge(f"The body is larger than {LARGEST_BODY} bytes.")
            pieces.append(piece)
    except ClientDisconnect as error:
        raise UnreadableBody from error
    return b"".join(pieces)


def relaying(request: Request, caller: Caller, call: ClientCall) -> Relaying:
    """The call with who makes it."""
    key = key_in(request.headers.get("idempotency-key"))
    return Relaying(call, on_behalf_of(caller), caller.tier, key)


async def relay(request: Request, manner: Manner, read: Callable[[bytes], DropInCall]) -> Response:
    """The whole of a paid route: who asks what, and an answer that relays."""
    caller = await caller_in(request, manner)
    call = read(await body_of(request))
    actions: Actions = request.app.state.actions
    return RelayedAnswer(manner, actions, caller, call, relaying(request, caller, call))


async def relay_free(
    request: Request, manner: Manner, read: Callable[[bytes], DropInCall]
) -> Response:
    """The whole of a route that uses nothing."""
    caller = await caller_in(request, manner)
    call = read(await body_of(request))
    actions: Actions = request.app.state.actions
    found = await actions.relay_free_call(relaying(request, caller, call))
    if isinstance(found, RawRefusal):
        return manner.refusal(found)
    return Response(found, media_type="application/json")


class RelayedAnswer(Response):
    """An answer that is written while the vendor speaks."""

    def __init__(
        self,
        manner: Manner,
        actions: Actions,
        caller: Caller,
        call: DropInCall,
        asked: Relaying,
    ) -> None:
        super().__init__()
        self._manner = manner
        self._actions = actions
        self._caller = caller
        self._call = call
        self._asked = asked

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        client = _Client(receive, send, self._manner, self._caller, self._call)
        try:
            found = await self._actions.relay_call(self._asked, client)
        except ExpectedFailure as failure:
            await self._manner.error(failure)(scope, receive, send)
            return
        if isinstance(found, RawRefusal):
            await self._manner.refusal(found)(scope, receive, send)
        elif isinstance(found, RepeatedAnswer):
            await self._replay(found)(scope, receive, send)

    def _replay(self, repeated: RepeatedAnswer) -> Response:
        body, media_type = repeated.body, repeated.head.media_type
        if self._call.streamed:
            framing = self._call.framing()
            body = framing.shown(body) + framing.end()
            media_type = framing.media_type or media_type
        headers = {"idempotency-replayed": "true", "content-type": media_type}
        return Response(body, headers=headers | self._manner.answer_headers(repeated.head))


class _Client:
    """The client on its socket."""

    def __init__(
        self, receive: Receive, send: Send, manner: Manner, caller: Caller, call: DropInCall
    ) -> None:
        self._receive = receive
        self._send = send
        self._manner = manner
        self._caller = caller
        self._streamed = call.streamed
        self._framing = call.framing()

    async def begin(self, head: AnswerHead) -> None:
        own = self._framing.media_type if self._streamed else None
        headers = {
            "content-type": own or head.media_type,
            **(_NO_BUFFERING if self._streamed else {}),
            **self._manner.answer_headers(head),
            **refresh_hint(self._caller, head.tier),
        }
        raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def hear(self, data: bytes) -> None:
        shown = self._framing.shown(data) if self._streamed else data
        if shown:
            await self._write(shown)

    async def end(self, failure: ExpectedFailure | None) -> None:
        rest = b""
        if self._streamed:
            if failure is not None:
                rest = self._framing.failed(self._manner.error_document(failure))
            rest += self._framing.end()
        await self._write(rest, more=False)

    async def gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class AsItCame:
    """A stream of events that is passed on unchanged. `error_event` is how it tells a failure."""

    media_type = None

    def __init__(self, error_event: Callable[[Mapping[str, Any]], bytes]) -> None:
        self._error_event = error_event

    def shown(self, data: bytes) -> bytes:
        return data

    def failed(self, error: Mapping[str, Any]) -> bytes:
        return self._error_event(error)

    def end(self) -> bytes:
        return b""


def data_event(document: Mapping[str, Any]) -> bytes:
    """A server-sent event without a name."""
    return b"data: %b\n\n" % to_json(document)


def named_event(name: str, document: Mapping[str, Any]) -> bytes:
    """A server-sent event with a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), to_json(document))
