"""Routes for messages: ask, and read what was said."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request, Response

from services.chat.actions import Actions
from services.chat.api.ask import whole_answer
from services.chat.api.dependencies import PageSize, ServiceActions
from services.chat.api.follower import left
from services.chat.api.live import live_answer
from services.chat.api.message_body import AnswerBody, MessageBody
from services.chat.api.question_body import (
    EditedMessage,
    HowToAnswer,
    NewMessage,
    edit_of,
    question_of,
    repeat_of,
)
from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.question import Question
from shared.http.caller import Caller, SignedIn
from shared.http.idempotency_key import IdempotencyKey
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import Responses, problems

router = APIRouter(prefix="/chat/sessions/{session_id}/messages", tags=["messages"])

_ANSWERS: Responses = {
    200: {"content": {"text/event-stream": {}}, "description": "The answer, whole or live."},
    **problems(401, 402, 404, 409, 413, 422, 429, 502, 503),
}


@router.post("", response_model=AnswerBody, responses=_ANSWERS)
async def ask(
    session_id: UUID,
    body: NewMessage,
    actions: ServiceActions,
    caller: SignedIn,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask, and get the answer as JSON or, with `stream`, as server-sent events."""
    # What is in order is answered in front of this, see `ask.py`.
    question = question_of(SessionId(session_id), body, caller, idempotency_key)
    return await _answer(actions, caller, question, request)


@router.post("/{message_id}/regenerate", response_model=AnswerBody, responses=_ANSWERS)
async def regenerate(
    session_id: UUID,
    message_id: UUID,
    body: Annotated[HowToAnswer, Body(default_factory=HowToAnswer)],
    actions: ServiceActions,
    caller: SignedIn,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Have a question answered again, named by itself or by its answer. The new answer begins a
    branch; without one the branch of before stays."""
    question = repeat_of(SessionId(session_id), message_id, body, caller, idempotency_key)
    return await _answer(actions, caller, question, request)


@router.post("/{message_id}/edit", response_model=AnswerBody, responses=_ANSWERS)
async def edit(
    session_id: UUID,
    message_id: UUID,
    body: EditedMessage,
    actions: ServiceActions,
    caller: SignedIn,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask in other words. The new question stands beside the old one and begins a branch; without
    an answer the branch of before stays."""
    question = edit_of(SessionId(session_id), message_id, body, caller, idempotency_key)
    return await _answer(actions, caller, question, request)


async def _answer(
    actions: Actions, caller: Caller, question: Question, request: Request
) -> Response:
    gone = partial(left, request.receive)
    if question.stream:
        return await live_answer(actions, caller, question, gone)
    headers, answer = await whole_answer(actions, caller, question, gone)
    return Response(answer, headers=dict(headers), media_type="application/json")


@router.get("", responses=problems(401, 404, 422, 503))
async def read_all(
    session_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    limit: PageSize = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    branch: Literal["active", "all"] = "active",
) -> Page[MessageBody]:
    """What was said, oldest first: on the active branch, or on all of them."""
    after = MessageId(read_cursor(cursor, UUID)[0]) if cursor else None
    messages = await actions.read_messages(
        SessionId(session_id),
        by=caller.identity.user_id,
        most=limit + 1,
        after=after,
        every_branch=branch == "all",
    )
    return Page[MessageBody].of(
        [MessageBody.of(message) for message in messages], limit, lambda last: cursor_of(last.id)
    )
