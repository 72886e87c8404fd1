"""The two services of `bench/skeleton.py`: the hops and waits of a turn, with nothing in them.

`python -m bench.skeleton_service chat|keyvault` reads where everything is from the environment.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import asyncpg
import orjson
import uvicorn
import uvloop
from redis.asyncio import ConnectionPool

from shared.clients.http1 import Answer, Http1Pool
from shared.http.whole_answers import WholeAnswers
from shared.large_pages import gather_pages
from shared.limits.line import Line, packed

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

CALL = "/openai/v1/chat/completions"
_WITHIN_SECONDS = 30.0
_GATHER_SECONDS = 0.04
_MOST_BYTES = 1 << 20
# Two counters, as long a command as nobody could do with less.
_ADMISSION = packed(
    "EVAL",
    "redis.call('incr', KEYS[1]) return redis.call('incr', KEYS[2])",
    2,
    "skeleton:requests",
    "skeleton:tokens",
)
_SIGNED = "x" * 400  # as long as a grant and as an access token
_HEADERS = {
    "content-type": "application/json",
    "x-companion-grant": _SIGNED,
    "x-companion-user": _SIGNED,
    "authorization": "Bearer nobody",
}
_READ = "select content from skeleton_session where id = $1"
_HOLD = "insert into skeleton_hold (content) values ($1)"
_SETTLE = "insert into skeleton_message (content) values ($1)"
_USE = "insert into skeleton_use (content) values ($1) returning id"
_MESSAGE = "x" * 800


class _Database:
    """Connections that are kept, as many as are wanted at once."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._idle: list[Any] = []

    async def ask(self, statement: str, value: object) -> None:
        connection = self._idle.pop() if self._idle else await asyncpg.connect(self._dsn)
        await connection.fetch(statement, value)
        self._idle.append(connection)


def _chat() -> App:
    """One read, a place, a commit beside the head of the call, the call, a commit beside the
    counters: what a turn waits for, in its order."""
    database = _Database(os.environ["SKELETON_DSN"])
    pool = Http1Pool("127.0.0.1", int(os.environ["SKELETON_EGRESS"]), gather=_GATHER_SECONDS)
    line = Line(ConnectionPool.from_url(os.environ["SKELETON_CACHE"]), timeout=2)

    async def opened(question: Message) -> Answer:
        body = {
            "model": "gpt-6.1-sol",
            "messages": [{"role": "user", "content": question["content"]}],
            "max_completion_tokens": 8000,
        }
        if question.get("stream"):
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        written = orjson.dumps(body)
        ahead = pool.ahead("POST", CALL, _HEADERS, len(written))
        await database.ask(_HOLD, question["content"])
        if ahead is None:
            return await pool.request("POST", CALL, _HEADERS, written, head_within=_WITHIN_SECONDS)
        return await pool.finish(ahead, written, head_within=_WITHIN_SECONDS)

    async def settled() -> None:
        await asyncio.gather(database.ask(_SETTLE, _MESSAGE), line.ask(_ADMISSION))

    async def take(_scope: Message, receive: Receive, send: Send) -> None:
        question = orjson.loads((await receive())["body"])
        await database.ask(_READ, 1)
        await line.ask(_ADMISSION)
        answer = await opened(question)
        if question.get("stream"):
            await send(_start(b"text/event-stream"))
            while piece := await answer.read_some(within=_WITHIN_SECONDS, gather=lambda _: True):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            answer.leave(in_peace=True)
            await settled()
            await send({"type": "http.response.body", "body": b""})
            return
        whole = await answer.read(within=_WITHIN_SECONDS, most=_MOST_BYTES)
        answer.leave(in_peace=True)
        await settled()
        await send(_start(b"application/json", len(whole)))
        await send({"type": "http.response.body", "body": whole})

    return take


def _keyvault() -> App:
    """A commit before each call."""
    database = _Database(os.environ["SKELETON_DSN"])

    async def check(_scope: Message, _receive: Receive, send: Send) -> None:
        await database.ask(_USE, "used")
        headers = [(b"authorization", b"Bearer bench-key-1"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return check


def _start(kind: bytes, length: int | None = None) -> Message:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _serve(app: App) -> None:
    # The server as the services have it.
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=int(os.environ["SKELETON_PORT"]),
        http=WholeAnswers,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)
    gather_pages()
    await uvicorn.Server(config).serve()


async def _main() -> None:
    await _serve({"chat": _chat, "keyvault": _keyvault}[sys.argv[1]]())


if __name__ == "__main__":
    uvloop.run(_main())
