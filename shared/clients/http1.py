"""A lean HTTP/1.1 client for one origin: one call at a time on a connection, kept alive in between.

For calls at every turn, where a general client costs more than the rest of the turn. It is strict
in what it takes (llhttp's rules), bounded in what it holds, and knows no HEAD, redirect, cookie,
proxy, compression, upgrade or retry. Whoever needs one of these wants another client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeAlias, TypeVar, cast, overload

import httptools

from shared.clients.beat import Beat
from shared.clients.polled import MOST_AT_A_LOOK, Polled
from shared.clients.silence import notice_silence

_CONNECT_SECONDS = 2.0
_REFUSED = 400  # and above
_NOT_WAITED_FOR = 408
# The egress keeps idle connections for 300 s: we let go first, so that none ends under a request.
_IDLE_SECONDS = 50.0
_MOST_IDLE = 512
_SEVERAL = 2
# A call that was left before its last bytes came: an SSE stream ends for its reader with an event,
# and for the connection with one chunk more. Waiting for that is cheaper than connecting anew.
_LINGER_SECONDS = 0.1
_LINGER_BYTES = 1 << 16
# Bytes that bring neither the end of a head nor a piece of a body: heads, chunk sizes, trailers.
_MOST_BARREN_BYTES = 1 << 16
# Above the first the peer has to wait, below the second it may go on.
_MUCH_UNREAD, _LITTLE_UNREAD = 1 << 18, 1 << 16

T = TypeVar("T")

MayWait: TypeAlias = Callable[[bytes], bool]
"""Whether a piece of an answer may wait for company."""


class NotReached(Exception):
    """No connection could be made; nothing was sent."""


class ConnectionLost(Exception):
    """The connection ended or broke the protocol, and the other side may have heard us."""


class NotFinished(Exception):
    """The other side went, would wait no longer, or answered something else, before the body of a
    request was sent whose head had gone ahead. Nobody had it, so that it may be sent anew."""


class BodyTooLarge(Exception):
    """There is more of the body than its reader wants to hold."""


class Headers(Mapping[str, str]):
    """An answer's headers by name, whatever the case; repeated ones are joined by commas."""

    __slots__ = ("_by_name",)

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._by_name: dict[str, str] = {}
        for raw_name, raw_value in pairs:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            before = self._by_name.get(name)
            self._by_name[name] = value if before is None else f"{before}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    # The one that is inherited catches a KeyError for each header that is not there.
    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | T) -> str | T: ...
    def get(self, name: str, /, default: str | T | None = None) -> str | T | None:
        return self._by_name.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


class Answer:
    """What came back. `status` and `headers` are there once the pool gives it out; whoever got it
    has to leave it, with or without having read it to its end."""

    __slots__ = (
        "_connection",
        "_pieces",
        "gathers",
        "headers",
        "is_complete",
        "lacks_body",
        "status",
        "trouble",
        "unread",
    )

    def __init__(self, connection: Connection, *, lacks_body: bool) -> None:
        # The head of its request has gone ahead, and the body has not followed.
        self.lacks_body = lacks_body
        self.status = 0
        self.headers: Mapping[str, str] = {}
        # The last byte has come, though it may not have been read.
        self.is_complete = False
        # What of it may wait, if anything: see `read_some`.
        self.gathers: MayWait | None = None
        self.trouble: str | None = None
        self._connection = connection
        self._pieces: list[bytes] = []
        self.unread = 0

    async def read_some(self, *, within: float, gather: MayWait | None = None) -> bytes:
        """What has come, as soon as something has; empty at the end. `within` is in seconds.

        `gather`: what comes soon after the last that was read, and may, waits for company for as
        long as the pool was told; not the end, and nothing before it.

        Raises ConnectionLost when the answer was cut, TimeoutError when nothing came in time.
        """
        connection, self.gathers = self._connection, gather
        if gather is None:
            connection.listen()
        while not self._pieces or (gather is not None and connection.is_held):
            if self.is_complete:
                return b""
            if self.trouble is not None:
                raise ConnectionLost(self.trouble)
            await connection.news(within)
        return self._take()

    async def read(self, *, within: float, most: int) -> bytes:
        """The rest of the body. `within` seconds is what it may take altogether.

        Raises what `read_some` raises, and BodyTooLarge for more than `most` bytes.
        """
        pieces, size, until = [], 0, self._connection.loop.time() + within
        while piece := await self.read_some(within=until - self._connection.loop.time()):
            size += len(piece)
            if size > most:
                raise BodyTooLarge
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def head(self, *, within: float) -> None:
        """Wait for status and headers. Raises as `read_some` does."""
        until = self._connection.loop.time() + within
        while not self.status:
            if self.trouble is None:
                await self._connection.news(until - self._connection.loop.time())
            if self.trouble is not None and not self._pieces:
                raise ConnectionLost(self.trouble)

    async def finish(self, body: bytes, *, head_within: float) -> None:
        """Send the body after the head that went ahead, and wait for the answer's head. Whoever has
        refused the request by its head already is sent no more: `lacks_body` stays.

        Raises NotFinished, and what `head` raises.
        """
        is_refused = self.status >= _REFUSED and self.status != _NOT_WAITED_FOR
        if self.status and not is_refused:
            # What is no refusal can't be an answer to what nobody had: it is somebody else's.
            raise NotFinished(f"answered {self.status} before the body")
        if not is_refused and not self._connection.send_body(self, body):
            raise NotFinished(self.trouble or "closed")
        await self.head(within=head_within)

    def leave(self, *, in_peace: bool) -> None:
        """The call is over. In peace, the connection may wait a moment for an answer's last bytes;
        otherwise an answer that is not complete is cut, which also tells the other side to stop."""
        self._connection.leave(self, in_peace=in_peace)

    def add(self, piece: bytes) -> int:
        """A piece of the body has come; answers how much waits for its reader."""
        self._pieces.append(piece)
        self.unread += len(piece)
        return self.unread

    def _take(self) -> bytes:
        pieces, self._pieces, self.unread = self._pieces, [], 0
        self._connection.was_read()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Connection(asyncio.Protocol):
    """One connection and the parser of its answers."""

    def __init__(self, pool: Http1Pool) -> None:
        self.is_closed = False
        self.idle_since = 0.0
        self._pool = pool
        self.loop = pool.loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = self._barren_bytes = 0
        self._is_informational = self._ends_with_connection = False
        self.is_paused = self._may_stay = self._moved = self._has_surplus = False
        self._lingering: asyncio.TimerHandle | None = None
        self._left = 0
        # What came waits for the next beat; what comes before `_calm_at` may have to.
        self.is_held = False
        self._calm_at = 0.0
        # In a crowd it is looked at with each beat, and the event loop tells us nothing.
        self._polled: Polled | None = None
        # One timer serves many waits: it is moved when it fires, not at each wait.
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._deadline = 0.0

    # What the pool and the answer ask of it.

    def send(self, request: bytes, *, lacks_body: bool = False) -> Answer:
        """Send a request, or its head alone. Only after the answer to the one before is
        complete."""
        assert self._transport is not None
        self._barren_bytes = 0
        self._may_stay = self._ends_with_connection = self.is_held = False
        self._answer = answer = Answer(self, lacks_body=lacks_body)
        self._transport.write(request)
        return answer

    def send_body(self, answer: Answer, body: bytes) -> bool:
        """What its head has promised. False: there is nobody left to hear it."""
        transport = self._transport
        if self.is_closed or answer.trouble is not None or transport is None:
            return False
        if transport.is_closing():
            return False
        answer.lacks_body = False
        transport.write(body)
        return True

    async def news(self, seconds: float) -> None:
        """Wait for the next change. Raises TimeoutError."""
        self._deadline = self.loop.time() + seconds
        if self._timer is None or self._timer_at > self._deadline:
            self._set_timer()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def was_read(self) -> None:
        """Its reader has all that came."""
        self.is_held = False
        beat = self._pool.beat
        if beat is not None:
            self._calm_at = self.loop.time() + beat.seconds
        if self.is_paused:
            self.go_on()

    def go_on(self) -> None:
        """There is room again for what the peer sends."""
        if self.is_paused and self._transport is not None and not self._transport.is_closing():
            self.is_paused = False
            self._transport.resume_reading()

    def listen(self) -> None:
        """Be told by the event loop of what comes, as usual."""
        polled, self._polled = self._polled, None
        # Where its reader does not keep up, it reads on once they have taken what came.
        if polled is not None and not self.is_paused:
            polled.listen()

    def leave(self, answer: Answer, *, in_peace: bool) -> None:
        """The call is over for its caller: keep the connection, wait for its end, or cut it."""
        if self.is_closed or answer is not self._answer or self._lingering is not None:
            return
        self.listen()
        if answer.is_complete:
            self._settle()
        elif in_peace and answer.status and answer.trouble is None:
            self._lingering = self.loop.call_later(_LINGER_SECONDS, self.abort)
            self._left = _LINGER_BYTES
            self.go_on()
        else:
            # Cutting it also tells the other side to stop.
            self.abort()

    def abort(self) -> None:
        """End the connection now."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._pool.know(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.is_complete or self._parser is None:
            self.abort()  # nobody asked for this
            return
        self._moved = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("upgraded")
        except httptools.HttpParserError:
            self._fail("malformed answer")
        if not self._moved:
            self._barren_bytes += len(data)
        if max(self._barren_bytes, self._header_bytes) > _MOST_BARREN_BYTES:
            self._fail("too large a head")

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and answer.status and self._ends_with_connection:
            self._complete()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        self._fail("cut off" if error is None else type(error).__name__)
        self._parser = self._polled = None  # the parser holds on to us
        for timer in (self._timer, self._lingering):
            if timer is not None:
                timer.cancel()
        self._pool.forget(self)

    # What the parser finds.

    def on_message_begin(self) -> None:
        self._headers, self._header_bytes = [], 0
        if self._answer is None or self._answer.is_complete:
            self._has_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Also called for trailers, which we read past.
        self._header_bytes += len(name) + len(value)
        if self._header_bytes <= _MOST_BARREN_BYTES:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        answer, parser = self._answer, self._parser
        if answer is None or parser is None or answer.is_complete:
            return
        status = parser.get_status_code()
        self._is_informational = 100 <= status < 200
        if self._is_informational:
            if status == 101:
                self._fail("upgraded")
            return
        if self._header_bytes > _MOST_BARREN_BYTES:
            return  # `data_received` sees it too
        answer.status, answer.headers = status, Headers(self._headers)
        self._headers, self._header_bytes = [], 0
        self._ends_with_connection = not _is_framed(answer.headers)
        self._move()

    def on_body(self, piece: bytes) -> None:
        answer = self._answer
        if answer is None or answer.is_complete or not answer.status:
            return
        if self._lingering is not None:
            self._left -= len(piece)
            if self._left < 0:
                self.abort()
            return
        unread = answer.add(piece)
        if unread > _MUCH_UNREAD and not self.is_paused and self._transport is not None:
            self.is_paused = True
            self._transport.pause_reading()
        gathers = answer.gathers
        if gathers is not None and unread <= _LITTLE_UNREAD and gathers(piece) and self._holds():
            self._moved, self._barren_bytes = True, 0
        else:
            self._move()

    def on_message_complete(self) -> None:
        answer, parser = self._answer, self._parser
        if self._is_informational:
            self._is_informational = False
        elif self._header_bytes > _MOST_BARREN_BYTES:
            self._fail("too large a trailer")
        elif answer is not None and not answer.is_complete and parser is not None:
            self._may_stay = parser.should_keep_alive()
            self._complete()

    # How a call ends.

    def _complete(self) -> None:
        answer = self._answer
        if answer is None or answer.is_complete or answer.trouble is not None or not answer.status:
            return
        answer.is_complete = True
        self._move()
        if self._lingering is not None:
            # After this read, which may hold more than it should.
            self.loop.call_soon(self._settle)

    def _settle(self) -> None:
        """Back to the pool, if all that was sent and all that came fits together."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self.is_closed:
            return
        transport = self._transport
        if (
            not self._may_stay
            or self._has_surplus
            # The other side still waits for the rest of a request.
            or (self._answer is not None and self._answer.lacks_body)
            or transport is None
            or transport.is_closing()
            or transport.get_write_buffer_size()
        ):
            self.abort()
            return
        self._answer = None
        self.go_on()
        self._pool.take_back(self)

    def _fail(self, trouble: str) -> None:
        answer = self._answer
        if answer is not None and not answer.is_complete and answer.trouble is None:
            answer.trouble = trouble
            self._move()
        self._may_stay = False
        if not self.is_closed:
            self.abort()

    def _move(self) -> None:
        self._moved, self._barren_bytes = True, 0
        self.is_held = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _holds(self) -> bool:
        """Whether what has come waits for company."""
        beat = self._pool.beat
        if self._polled is not None:
            self.is_held = True
        elif not self.is_held and beat is not None and self.loop.time() < self._calm_at:
            self.is_held = True
            self._wait_for(beat)
        return self.is_held

    def _wait_for(self, beat: Beat) -> None:
        if beat.is_crowded and self._transport is not None and not self.is_paused:
            self._polled = Polled(self._transport)
            beat.wait(partial(self._look, self._polled))
        else:
            beat.wait(self._release)

    def _release(self) -> None:
        if self.is_held:
            self._move()

    def _look(self, polled: Polled) -> None:
        """Take what has come, and look again at the next beat while that is worth it."""
        answer, beat = self._answer, self._pool.beat
        if polled is not self._polled or answer is None or beat is None:
            return
        keeps_up = answer.unread <= _LITTLE_UNREAD
        if keeps_up and self._take_from(polled) and not answer.is_complete and beat.is_crowded:
            beat.wait(partial(self._look, polled))
        else:
            self.listen()
        self._release()

    def _take_from(self, polled: Polled) -> bool:
        """Whether what had come was neither nothing nor much."""
        try:
            came = polled.look()
        except OSError as error:
            self._fail(type(error).__name__)
            return False
        if came:
            self.data_received(came)
        return 0 < len(came) < MOST_AT_A_LOOK

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self.loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self.loop.time() < self._deadline:
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError())


class Http1Pool:
    """Connections to one origin. As many as there are calls; admission limits those, not we.

    While several calls are under way one more connection is kept free, so that the next one need
    not connect and its head can go ahead.

    `gather`: for how many seconds pieces of an answer may wait for each other, where their reader
    lets them; 0: none does.
    """

    def __init__(
        self, host: str, port: int, *, idle_for: float = _IDLE_SECONDS, gather: float = 0.0
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.beat = Beat(self.loop, gather) if gather > 0 else None
        self._host, self._port = host, port
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._idle_for = idle_for
        self._idle: list[Connection] = []  # the one that was used last is last
        self._sweep: asyncio.TimerHandle | None = None
        self._all: set[Connection] = set()
        self._providing: asyncio.Task[None] | None = None

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        head_within: float,
    ) -> Answer:
        """The answer, once its head is here. Its caller has to leave it.

        `target` is a path and query as they are sent, `head_within` in seconds. Raises ValueError
        for a header that can't be one, NotReached, ConnectionLost, and TimeoutError.
        """
        request = _head(method, target, self._authority, headers, len(body)) + body
        connection = self._idle_one() or await self._connect()
        self._provide()
        answer = connection.send(request)
        try:
            await answer.head(within=head_within)
        except BaseException:
            answer.leave(in_peace=False)
            raise
        return answer

    def ahead(
        self, method: str, target: str, headers: Mapping[str, str], length: int
    ) -> Answer | None:
        """Send the head of a request with a body of so many bytes, to be finished or left. None
        where no connection is free: what has to connect first would gain little.

        Raises ValueError for a header that can't be one.
        """
        head = _head(method, target, self._authority, headers, length)
        connection = self._idle_one()
        if connection is None:
            return None
        self._provide()
        return connection.send(head, lacks_body=length > 0)

    async def finish(self, ahead: Answer, body: bytes, *, head_within: float) -> Answer:
        """The answer to what went ahead, as of `request`. Raises NotFinished, too."""
        try:
            await ahead.finish(body, head_within=head_within)
        except BaseException:
            ahead.leave(in_peace=False)
            raise
        return ahead

    def has_free(self) -> bool:
        """Whether a connection is free."""
        connection = self._idle_one()
        if connection is not None:
            self._idle.append(connection)
        return connection is not None

    async def reach(self) -> None:
        """Raises NotReached unless a connection can be made now."""
        (await self._connect()).abort()

    async def close(self) -> None:
        """End all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
        if self._providing is not None:
            self._providing.cancel()
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop tells the transports

    def take_back(self, connection: Connection) -> None:
        """A connection is free."""
        if len(self._idle) >= _MOST_IDLE:
            connection.abort()
            return
        connection.idle_since = self.loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self.loop.call_later(self._idle_for, self._let_go)

    def know(self, connection: Connection) -> None:
        """A connection stands."""
        self._all.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self._all.discard(connection)

    def _idle_one(self) -> Connection | None:
        oldest = self.loop.time() - self._idle_for
        while self._idle:
            connection = self._idle.pop()
            if connection.is_closed:
                continue
            if connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    def _provide(self) -> None:
        """Connect for whoever comes next, unless one is free, or calls come one after the other."""
        if self._idle or len(self._all) < _SEVERAL:
            return
        if self._providing is None or self._providing.done():
            self._providing = self.loop.create_task(self._connect_ahead())

    async def _connect_ahead(self) -> None:
        # Whoever needs one tries for themselves, and can say what is the matter.
        with suppress(NotReached):
            self.take_back(await self._connect())

    def _let_go(self) -> None:
        self._sweep = None
        oldest = self.loop.time() - self._idle_for
        for connection in self._idle:
            if connection.idle_since <= oldest:
                connection.abort()
        self._idle = [connection for connection in self._idle if not connection.is_closed]
        if self._idle:
            wait = self._idle[0].idle_since - oldest
            self._sweep = self.loop.call_later(wait, self._let_go)

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                transport, connection = await self.loop.create_connection(
                    lambda: Connection(self), self._host, self._port
                )
            notice_silence(transport)
        except (OSError, TimeoutError) as error:
            raise NotReached(type(error).__name__) from error
        if connection.is_closed:
            raise NotReached("closed at once")
        return connection


def _head(
    method: str, target: str, authority: str, headers: Mapping[str, str], length: int
) -> bytes:
    lines = [
        f"{method} {target} HTTP/1.1",
        f"host: {authority}",
        "accept: */*",
        "accept-encoding: identity",
        f"content-length: {length}",
        *[f"{name}: {value}" for name, value in headers.items()],
        "\r\n",
    ]
    head = "\r\n".join(lines)
    # A value that holds a line's end would be another header, or another request.
    ends = len(lines)
    if head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
        raise ValueError("a header that breaks its line")
    return head.encode("latin-1")


def _is_framed(headers: Mapping[str, str]) -> bool:
    """Whether the answer itself tells where it ends; otherwise the connection's end does."""
    encoding = headers.get("transfer-encoding")
    if encoding is not None:
        return encoding.lower().rstrip().endswith("chunked")
    return "content-length" in headers
