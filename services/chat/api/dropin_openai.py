"""OpenAI's own interface for its SDKs, under `/openai/v1`: passed through, governed and metered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from services.chat.api import dropin_openai_errors
from services.chat.api.dependencies import ServiceActions
from services.chat.api.dropin_door import Manner, caller_in, relay, route_class
from services.chat.api.dropin_models import usable_model, usable_models
from services.chat.api.dropin_openai_calls import read_chat, read_response
from services.chat.api.dropin_operation import paid_call
from services.chat.api.openai_errors import openai_errors
from services.chat.api.openai_models import OpenAIModel, OpenAIModelList
from shared.http.openai_limits import openai_limit_headers
from shared.vendors.dropins import CallNotOffered

MANNER = Manner(
    surface="OpenAI",
    key_header="authorization",
    document=dropin_openai_errors.document,
    words=dropin_openai_errors.words,
    limit_headers=openai_limit_headers,
)

router = APIRouter(prefix="/openai/v1", tags=["openai"], route_class=route_class(MANNER))
_ERRORS = openai_errors(400, 401, 403, 404, 409, 413, 429, 502)


@router.post("/chat/completions", responses=_ERRORS, openapi_extra=paid_call)
async def complete(request: Request) -> Response:
    """Chat Completions, in OpenAI's own words: whole or as server-sent events."""
    return await relay(request, MANNER, read_chat)


@router.post("/responses", responses=_ERRORS, openapi_extra=paid_call)
async def respond(request: Request) -> Response:
    """Responses, in OpenAI's own words: whole or as server-sent events. Nothing is stored."""
    return await relay(request, MANNER, read_response)


@router.get("/models", response_model=OpenAIModelList, responses=openai_errors(401, 403, 429))
async def list_models(
    request: Request, response: Response, actions: ServiceActions
) -> OpenAIModelList:
    """OpenAI's models that you can use now."""
    caller = await caller_in(request, MANNER)
    found = await usable_models(actions, caller, "openai", response)
    return OpenAIModelList(data=[OpenAIModel(id=m.model, owned_by=m.provider) for m in found])


@router.get(
    "/models/{model}", response_model=OpenAIModel, responses=openai_errors(401, 403, 404, 429)
)
async def show_model(
    model: Annotated[str, Path(max_length=200)],
    request: Request,
    response: Response,
    actions: ServiceActions,
) -> OpenAIModel:
    """One of them, by any name that a call may use for it."""
    caller = await caller_in(request, MANNER)
    found = await usable_model(actions, caller, "openai", model, response)
    return OpenAIModel(id=found.model, owned_by=found.provider)


@router.api_route(
    "/{_rest:path}",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    include_in_schema=False,
)
async def not_offered(request: Request) -> Response:
    """All that OpenAI offers beside."""
    await caller_in(request, MANNER)
    raise CallNotOffered(MANNER.surface)
