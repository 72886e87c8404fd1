"""Routes for chat sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.chat.api.doors import PageSize, ServiceActions
from services.chat.domain.conversation import ChatSession, SessionId
from shared.http.caller import SignedIn
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems

router = APIRouter(prefix="/chat/sessions", tags=["sessions"])

Name = Annotated[str, Field(min_length=1, max_length=200)]
Provider = Annotated[str, Field(min_length=1, max_length=40)]
SystemPrompt = Annotated[str, Field(max_length=20_000)]


class NewSession(BaseModel):
    """How to begin a conversation."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    provider: Provider = "openai"
    system_prompt: SystemPrompt | None = None


class SessionChange(BaseModel):
    """What to change; what is left out stays. An empty system prompt removes it."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    provider: Provider | None = None
    system_prompt: SystemPrompt | None = None


class SessionBody(BaseModel):
    """A conversation."""

    id: UUID
    name: str
    provider: str
    system_prompt: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, session: ChatSession) -> SessionBody:
        return cls(
            id=session.id,
            name=session.name,
            provider=session.provider,
            system_prompt=session.system_prompt,
            created_at=session.created_at,
            updated_at=session.updated_at,
        )


@router.post("", status_code=201, responses=problems(401, 422, 503))
async def start(body: NewSession, actions: ServiceActions, caller: SignedIn) -> SessionBody:
    """Begin a conversation."""
    session = await actions.start_session(
        caller.identity.user_id,
        name=body.name,
        provider=body.provider,
        system_prompt=body.system_prompt,
    )
    return SessionBody.of(session)


@router.get("", responses=problems(401, 422, 503))
async def list_all(
    actions: ServiceActions,
    caller: SignedIn,
    limit: PageSize = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[SessionBody]:
    """Your conversations, the one used last first."""
    before = None
    if cursor is not None:
        at, id_ = read_cursor(cursor, datetime.fromisoformat, UUID)
        before = (at, SessionId(id_))
    sessions = await actions.list_sessions(caller.identity.user_id, most=limit + 1, before=before)
    return Page[SessionBody].of(
        [SessionBody.of(session) for session in sessions],
        limit,
        lambda last: cursor_of(last.updated_at.isoformat(), last.id),
    )


@router.get("/{session_id}", responses=problems(401, 404, 422, 503))
async def read(session_id: UUID, actions: ServiceActions, caller: SignedIn) -> SessionBody:
    """One conversation."""
    session = await actions.read_session(SessionId(session_id), by=caller.identity.user_id)
    return SessionBody.of(session)


@router.patch("/{session_id}", responses=problems(401, 404, 422, 503))
async def change(
    session_id: UUID, body: SessionChange, actions: ServiceActions, caller: SignedIn
) -> SessionBody:
    """Rename a conversation, change its provider or its system prompt."""
    session = await actions.change_session(
        SessionId(session_id),
        by=caller.identity.user_id,
        name=body.name,
        provider=body.provider,
        system_prompt=body.system_prompt,
    )
    return SessionBody.of(session)


@router.delete("/{session_id}", status_code=204, responses=problems(401, 404, 422, 503))
async def delete(session_id: UUID, actions: ServiceActions, caller: SignedIn) -> None:
    """Delete a conversation with its messages."""
    await actions.delete_session(SessionId(session_id), by=caller.identity.user_id)
