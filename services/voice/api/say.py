"""`POST /voice/speech`, without FastAPI around it.

A request that is in order is answered here. Any other, however it is out of order, goes on to the
same route in `speech.py`, with what was read of it: what is said to it is said there.
"""

from __future__ import annotations

import json
import re

from pydantic import ValidationError

from services.voice.api.speech import LONGEST_HEADER, SpeechBody, spoken
from shared.http.caller import caller_of
from shared.http.door import Receive, Scope, Send
from shared.http.hot import HotRoute
from shared.http.idempotency_key import is_key
from shared.http.read_before import read_whole, told_again
from shared.values import dataclass

_JSON = re.compile(r"application/json *(?:;|\Z)")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that is in order."""

    body: SpeechBody
    idempotency_key: str | None
    accept: str
    cache_control: str


async def _say(scope: Scope, receive: Receive, send: Send) -> None:
    messages, body = await read_whole(receive)
    asked = _in_order(scope, body) if body is not None else None
    if asked is None:
        await scope["app"](scope, told_again(messages, receive), send)
        return
    answer = await spoken(
        asked.body,
        await caller_of(scope),
        scope["app"].state.actions,
        asked.idempotency_key,
        asked.accept,
        asked.cache_control,
    )
    await answer(scope, receive, send)


def _in_order(scope: Scope, body: bytes) -> _Asked | None:
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            if name in headers or len(value) > LONGEST_HEADER:
                return None
            headers[name] = value.decode("latin-1")
    if not _JSON.match(headers.get(b"content-type", "")):
        return None
    key = headers.get(b"idempotency-key")
    if key is not None and not is_key(key):
        return None
    try:
        # As FastAPI reads it: another parser would take other texts for JSON.
        new = SpeechBody.model_validate(json.loads(body))
    except (ValidationError, ValueError, RecursionError):
        return None
    return _Asked(new, key, headers.get(b"accept", "*/*"), headers.get(b"cache-control", ""))


_READ = frozenset({b"content-type", b"idempotency-key", b"accept", b"cache-control"})

say = HotRoute("/voice/speech", _say, methods={"POST"})
