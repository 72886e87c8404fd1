"""`POST /chat/sessions/{session_id}/messages`, without FastAPI around it.

A request that is in order is answered here. Any other, however it is out of order, goes on to the
same route in `messages.py`, with what was read of it: what is said to it is said there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from pydantic import ValidationError

from services.chat.actions import Actions
from services.chat.actions.take_turn import Replayed
from services.chat.api.follower import left
from services.chat.api.live import live_answer
from services.chat.api.message_body import answer_json
from services.chat.api.question_body import NewMessage, question_of
from services.chat.domain.conversation import SessionId
from services.chat.domain.question import Question
from services.chat.domain.turn_events import Answered, Broken
from shared.errors import after_counting
from shared.http.caller import Caller, caller_of, refresh_hint
from shared.http.door import Receive, Scope, Send
from shared.http.hot import HotRoute
from shared.http.idempotency_key import is_key
from shared.http.ratelimit import rate_limit_headers
from shared.http.read_before import read_whole, told_again
from shared.limit_state import LimitState
from shared.limits.pace import Gone
from shared.values import dataclass

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z")
_JSON = re.compile(rb"application/json *(?:;|\Z)")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that is in order."""

    session_id: SessionId
    body: NewMessage
    idempotency_key: str | None


async def _ask(scope: Scope, receive: Receive, send: Send) -> None:
    messages, body = await read_whole(receive)
    asked = _in_order(scope, body) if body is not None else None
    if asked is None:
        await scope["app"](scope, told_again(messages, receive), send)
        return
    caller = await caller_of(scope)
    actions: Actions = scope["app"].state.actions
    question = question_of(asked.session_id, asked.body, caller, asked.idempotency_key)
    gone = partial(left, receive)
    if question.stream:
        await (await live_answer(actions, caller, question, gone))(scope, receive, send)
    else:
        headers, answer = await whole_answer(actions, caller, question, gone)
        await _send(send, headers, answer)


async def whole_answer(
    actions: Actions, caller: Caller, question: Question, gone: Gone
) -> tuple[Mapping[str, str], bytes]:
    """Headers and JSON of the answer. Raises the failure of a turn that broke."""
    asked = await actions.take_turn(question, gone)
    headers = rate_limit_headers(asked.limits, datetime.now(UTC))
    if isinstance(asked, Replayed):
        return headers | {"idempotency-replayed": "true"}, _told(asked.result, asked.limits)
    headers |= refresh_hint(caller, asked.hold.tier)
    return headers, _told(await asked.result(), asked.limits, asked.left_out)


def _told(
    result: Answered | Broken, limits: Sequence[LimitState], left_out: int | None = None
) -> bytes:
    if isinstance(result, Broken):
        raise after_counting(result.failure, limits)
    return answer_json(result.message, result.finish_reason, result.fallback_from, left_out)


def _in_order(scope: Scope, body: bytes) -> _Asked | None:
    session_id = scope["path_params"]["session_id"]
    keys = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    if not _UUID.match(session_id) or len(types) != 1 or not _JSON.match(types[0]):
        return None
    if len(keys) > 1 or (keys and not is_key(keys[0].decode("latin-1"))):
        return None
    try:
        # As FastAPI reads it: another parser would take other texts for JSON.
        new = NewMessage.model_validate(json.loads(body))
    except (ValidationError, ValueError, RecursionError):
        return None
    return _Asked(SessionId(UUID(session_id)), new, keys[0].decode() if keys else None)


async def _send(send: Send, headers: Mapping[str, str], body: bytes) -> None:
    start = [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
        *[(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
    ]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})


ask = HotRoute("/chat/sessions/{session_id}/messages", _ask, methods={"POST"})
