"""Routes for messages: ask, and read what was said."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.chat.actions.running_turn import Broken, RunningTurn
from services.chat.actions.take_turn import Question, Replayed
from services.chat.api.doors import PageSize, ServiceActions
from services.chat.api.event_stream import EventStream
from services.chat.api.message_body import MessageBody, UsageBody
from services.chat.domain.conversation import Message, MessageId, SessionId
from shared.events.base import current_request_id
from shared.http.caller import SignedIn, refresh_hint
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems
from shared.http.ratelimit import rate_limit_headers
from shared.identity import OnBehalfOf
from shared.limit_state import LimitState
from shared.money import dollars_text

router = APIRouter(prefix="/chat/sessions/{session_id}/messages", tags=["messages"])

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$"),
]


class NewMessage(BaseModel):
    """A question to the session's provider, or to another one for this turn."""

    model_config = ConfigDict(extra="forbid")

    content: Annotated[str, StringConstraints(min_length=1, max_length=200_000, pattern=r"\S")]
    provider: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    model: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    stream: bool = False


class AnswerBody(BaseModel):
    """The answer, with what it used and cost. `fallback_from` names the provider that should have
    answered when another one did."""

    message: MessageBody
    usage: UsageBody | None
    cost_microusd: int | None
    cost_usd: str | None
    finish_reason: str
    fallback_from: str | None = None

    @classmethod
    def of(cls, message: Message, finish_reason: str) -> AnswerBody:
        body = MessageBody.of(message)
        return cls(
            message=body,
            usage=body.usage,
            cost_microusd=message.cost_microusd,
            cost_usd=dollars_text(message.cost_microusd),
            finish_reason=finish_reason,
        )


@router.post(
    "",
    response_model=AnswerBody,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The answer, whole or live."},
        **problems(401, 402, 404, 409, 422, 429, 502, 503),
    },
)
async def ask(
    session_id: UUID,
    body: NewMessage,
    actions: ServiceActions,
    caller: SignedIn,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask, and get the answer as JSON or, with `stream`, as server-sent events."""
    asked = await actions.take_turn(
        Question(
            session_id=SessionId(session_id),
            content=body.content,
            tier=caller.tier,
            by=OnBehalfOf(
                user_id=caller.identity.user_id,
                request_id=current_request_id.get() or "",
                access_token=caller.token,
                sign_in_id=caller.identity.sign_in_id,
                served_by=caller.identity.served_by,
            ),
            provider=body.provider,
            model=body.model,
            stream=body.stream,
            idempotency_key=idempotency_key,
        )
    )
    if isinstance(asked, Replayed):
        answer = AnswerBody.of(asked.message, "stop")
        return _json(answer, {"idempotency-replayed": "true"})
    headers = _limit_headers(asked.limits) | refresh_hint(caller, asked.hold.tier)
    if body.stream:
        return EventStream(asked, headers)
    return await _whole(asked, headers)


async def _whole(turn: RunningTurn, headers: Mapping[str, str]) -> Response:
    result = await turn.result()
    if isinstance(result, Broken):
        raise result.failure
    return _json(AnswerBody.of(result.message, result.finish_reason), headers)


@router.get("", responses=problems(401, 404, 422, 503))
async def read_all(
    session_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    limit: PageSize = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[MessageBody]:
    """What was said, oldest first."""
    after = MessageId(read_cursor(cursor, UUID)[0]) if cursor else None
    messages = await actions.read_messages(
        SessionId(session_id), by=caller.identity.user_id, most=limit + 1, after=after
    )
    return Page[MessageBody].of(
        [MessageBody.of(message) for message in messages], limit, lambda last: cursor_of(last.id)
    )


def _json(body: BaseModel, headers: Mapping[str, str]) -> Response:
    content: Any = body.model_dump(mode="json")
    return JSONResponse(content, headers=dict(headers))


def _limit_headers(limits: tuple[LimitState, ...] | Any) -> dict[str, str]:
    return rate_limit_headers(limits, datetime.now(UTC))
