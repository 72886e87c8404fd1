"""Routes for chat sessions."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from services.chat.actions.search_sessions import SearchResult
from services.chat.api.dependencies import PageSize, ServiceActions
from services.chat.api.session_body import SessionBody
from services.chat.api.session_file import json_file, markdown_file
from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.search import LONGEST_QUERY, Found, Terms
from shared.errors import require_storable
from shared.http.caller import SignedIn
from shared.http.pages import Page, cursor_of, moment_in_cursor, read_cursor
from shared.http.problems import problems

router = APIRouter(prefix="/chat/sessions", tags=["sessions"])

# Python's own idea of what stands between words, which has four signs more than that of patterns.
_NOT_BLANK = r"[^\s\x1c-\x1f]"

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_NOT_BLANK)]
Provider = Annotated[str, Field(min_length=1, max_length=40)]
SystemPrompt = Annotated[str, Field(max_length=20_000)]
Search = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=LONGEST_QUERY,
        pattern=_NOT_BLANK,
        description="Words to look for.",
    ),
]


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


class SnippetBody(BaseModel):
    """Where a session's newest message has the first term of a search: plain text, on one line."""

    message_id: UUID
    role: str
    before: str
    match: str
    after: str


class ListedSessionBody(SessionBody):
    """A conversation in a list; `snippet` tells where a search found something in its messages,
    and is null when that was its name."""

    snippet: SnippetBody | None = None

    @classmethod
    def found(cls, found: Found) -> ListedSessionBody:
        session, snippet = SessionBody.of(found.session), found.snippet
        return cls(
            **session.model_dump(),
            snippet=None
            if snippet is None
            else SnippetBody(
                message_id=snippet.message_id,
                role=snippet.role,
                before=snippet.before,
                match=snippet.match,
                after=snippet.after,
            ),
        )


@router.post("", status_code=201, responses=problems(401, 422, 503))
async def start(
    body: Annotated[NewSession, Body(default_factory=NewSession)],
    actions: ServiceActions,
    caller: SignedIn,
) -> SessionBody:
    """Begin a conversation."""
    _require_storable(body)
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
    q: Search = None,
    provider: Annotated[str | None, Query(max_length=40)] = None,
) -> Page[ListedSessionBody]:
    """Your conversations, the one used last first; with `q` those in whose name or in one of whose
    messages all its words stand, or parts of words. A page of a search may hold less than
    `limit` and not be the last: `next_cursor` tells."""
    # What nothing can be stored with nothing is found with.
    require_storable("q", q)
    require_storable("provider", provider)
    before = None
    if cursor is not None:
        at, id_ = read_cursor(cursor, moment_in_cursor, UUID)
        before = (at, SessionId(id_))
    user_id = caller.identity.user_id
    if q is not None:
        return _results(
            await actions.search_sessions(
                user_id, Terms.of(q), most=limit, before=before, provider=provider
            )
        )
    sessions = await actions.list_sessions(
        user_id, most=limit + 1, before=before, provider=provider
    )
    return Page[ListedSessionBody].of(
        [ListedSessionBody.found(Found(session, None)) for session in sessions],
        limit,
        lambda last: cursor_of(last.updated_at.isoformat(), last.id),
    )


def _require_storable(body: NewSession | SessionChange) -> None:
    require_storable("name", body.name)
    require_storable("system_prompt", body.system_prompt)


def _results(result: SearchResult) -> Page[ListedSessionBody]:
    cursor = None
    if result.looked_to is not None:
        at, id_ = result.looked_to
        cursor = cursor_of(at.isoformat(), id_)
    return Page[ListedSessionBody](
        data=[ListedSessionBody.found(found) for found in result.found], next_cursor=cursor
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
    _require_storable(body)
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


class BranchChoice(BaseModel):
    """Any message of the branch that is to be shown."""

    model_config = ConfigDict(extra="forbid")

    message_id: UUID


@router.post("/{session_id}/branch", status_code=204, responses=problems(401, 404, 409, 422, 503))
async def switch_branch(
    session_id: UUID, body: BranchChoice, actions: ServiceActions, caller: SignedIn
) -> None:
    """Make the branch active that holds a message, with the newest that follows it."""
    await actions.switch_branch(
        SessionId(session_id), MessageId(body.message_id), by=caller.identity.user_id
    )


@router.get(
    "/{session_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/json": {}, "text/markdown": {}}},
        **problems(401, 404, 422, 503),
    },
)
async def export(
    session_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    format_: Annotated[Literal["json", "markdown"], Query(alias="format")] = "json",
) -> StreamingResponse:
    """One conversation as a file: as JSON with all branches and images, as Markdown the active
    branch."""
    session = await actions.read_session(SessionId(session_id), by=caller.identity.user_id)
    if format_ == "markdown":
        return await markdown_file(session, actions.export_user)
    return await json_file(session, actions.export_user)
