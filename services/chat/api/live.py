"""Routes for live answers: follow one from anywhere, stop one from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from services.chat.actions import Actions
from services.chat.actions.ask_live import AskedLive
from services.chat.api.dependencies import ServiceActions
from services.chat.api.event_stream import AskedStream, FollowStream, SpokenStream
from services.chat.api.message_body import AnswerBody
from services.chat.domain.conversation import SessionId
from services.chat.domain.question import Question
from services.chat.domain.spoken_turn import SpokenTurn
from services.chat.domain.turn import TurnId
from services.chat.domain.turn_events import Answered, Broken
from shared.http.caller import Caller, SignedIn, refresh_hint
from shared.http.problems import problems
from shared.http.ratelimit import rate_limit_headers
from shared.limits.pace import Gone

router = APIRouter(prefix="/chat/sessions/{session_id}", tags=["live answers"])

# A number, or what an EventSource sends when it has seen no event with an id yet.
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{0,9}$", max_length=9)
]


@router.get(
    "/stream",
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The answer's events."},
        **problems(401, 404, 422, 429, 503),
    },
    response_class=Response,
)
async def follow(
    session_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    last_event_id: LastEventId = None,
    after: Annotated[int | None, Query(ge=0, le=999_999_999)] = None,
    turn_id: UUID | None = None,
) -> Response:
    """Follow the session's running answer, or see its last one, from the event after the one that
    you saw last. `turn_id` names an earlier answer, or makes sure that it is still the same."""
    seen = after if after is not None else int(last_event_id or 0)
    identity = caller.identity
    turn = await actions.follow_turn(
        SessionId(session_id),
        by=identity.user_id,
        turn_id=TurnId(turn_id) if turn_id else None,
        after=seen,
    )
    return FollowStream(
        turn,
        actions.devices,
        user_id=identity.user_id,
        sign_in_id=identity.sign_in_id,
        after=seen,
    )


@router.post("/stop", responses=problems(401, 404, 409, 422, 502, 503))
async def stop(session_id: UUID, actions: ServiceActions, caller: SignedIn) -> AnswerBody:
    """End the session's running answer; what was written of it is kept, and counted."""
    ended = await actions.stop_turn(SessionId(session_id), by=caller.identity.user_id)
    return answer_of(ended)


def answer_of(ended: Answered | Broken) -> AnswerBody:
    """What a stopped turn came to. Raises its failure when it had failed before any content."""
    if isinstance(ended, Answered):
        return AnswerBody.of(ended.message, ended.finish_reason, ended.fallback_from)
    if ended.message is None:
        raise ended.failure
    return AnswerBody.of(ended.message, ended.message.finish_reason or "other")


async def live_answer(actions: Actions, caller: Caller, question: Question, gone: Gone) -> Response:
    """The answer to a question as a stream of events; to one that was asked before, again."""
    ask = actions.ask_live if question.speak is None else actions.ask_spoken
    asked = await ask(question, gone)
    headers, user_id = _headers(asked, caller), caller.identity.user_id
    if isinstance(asked.turn, SpokenTurn):
        return SpokenStream(asked.turn, headers, actions.devices, user_id=user_id)
    return AskedStream(asked.turn, headers, actions.devices, user_id=user_id)


def _headers(asked: AskedLive, caller: Caller) -> Mapping[str, str]:
    limits = rate_limit_headers(asked.limits, datetime.now(UTC))
    if asked.replayed:
        return limits | {"idempotency-replayed": "true"}
    return limits | refresh_hint(caller, asked.tier or caller.identity.tier)
