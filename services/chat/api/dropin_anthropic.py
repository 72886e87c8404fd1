"""Anthropic's own interface for its SDKs, under `/anthropic`: passed through, governed, metered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from services.chat.actions.list_models import OfferedModel
from services.chat.api import dropin_anthropic_errors
from services.chat.api.anthropic_limits import anthropic_limit_headers
from services.chat.api.dependencies import ServiceActions
from services.chat.api.dropin_anthropic_calls import read_count, read_message
from services.chat.api.dropin_door import (
    Manner,
    caller_in,
    relay,
    relay_free,
    route_class,
)
from services.chat.api.dropin_models import usable_model, usable_models
from services.chat.api.dropin_operation import free_call, paid_call
from shared.http.problems import NEVER, Responses
from shared.vendors.dropins import CallNotOffered

MANNER = Manner(
    surface="Anthropic",
    key_header="x-api-key",
    document=dropin_anthropic_errors.document,
    words=dropin_anthropic_errors.words,
    limit_headers=anthropic_limit_headers,
    id_header="request-id",
)

router = APIRouter(prefix="/anthropic/v1", tags=["anthropic"], route_class=route_class(MANNER))
strays = APIRouter(prefix="/anthropic", tags=["anthropic"], route_class=route_class(MANNER))


class AnthropicError(BaseModel):
    """What went wrong; `details` has our own stable code and the facts."""

    type: str
    message: str
    details: dict[str, Any]


class AnthropicErrorBody(BaseModel):
    """Anthropic's envelope around it."""

    type: Literal["error"]
    error: AnthropicError
    request_id: str | None


class AnthropicModel(BaseModel):
    """A model. Vendors' dates are not known here, so `created_at` is always 1970."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str = "1970-01-01T00:00:00Z"
    lifecycle: Literal["active"] = "active"
    max_tokens: int
    max_input_tokens: int
    capabilities: None = None

    @classmethod
    def of(cls, model: OfferedModel) -> AnthropicModel:
        return cls(
            id=model.model,
            display_name=model.model,
            max_tokens=model.max_output_tokens,
            max_input_tokens=model.context_tokens,
        )


class AnthropicModels(BaseModel):
    """A page of them."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


def _errors(*statuses: int) -> Responses:
    return {
        **{
            status: {"model": AnthropicErrorBody, "description": "Anthropic's error."}
            for status in (*statuses, 400, 401, 403, 429, 503)
        },
        422: NEVER,
    }


@router.post("/messages", responses=_errors(400, 404, 409, 413, 502), openapi_extra=paid_call)
async def create(request: Request) -> Response:
    """Messages, in Anthropic's own words: whole or as server-sent events."""
    return await relay(request, MANNER, lambda body: read_message(body, request.headers))


@router.post(
    "/messages/count_tokens", responses=_errors(400, 404, 413, 502), openapi_extra=free_call
)
async def count_tokens(request: Request) -> Response:
    """How many tokens a message would have. Costs nothing."""
    return await relay_free(request, MANNER, lambda body: read_count(body, request.headers))


@router.get("/models", response_model=AnthropicModels, responses=_errors())
async def list_models(
    request: Request,
    response: Response,
    actions: ServiceActions,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
    after_id: Annotated[str | None, Query(max_length=200)] = None,
    before_id: Annotated[str | None, Query(max_length=200)] = None,
) -> AnthropicModels:
    """Anthropic's models that you can use now."""
    caller = await caller_in(request, MANNER)
    usable = await usable_models(actions, caller, "anthropic", response)
    found = [AnthropicModel.of(model) for model in usable]
    ids = [model.id for model in found]
    begin = ids.index(after_id) + 1 if after_id in ids else 0
    end = ids.index(before_id) if before_id in ids else len(ids)
    page = found[begin:end][:limit] if before_id is None else found[begin:end][-limit:]
    return AnthropicModels(
        data=page,
        has_more=len(page) < end - begin,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
    )


@router.get("/models/{model}", response_model=AnthropicModel, responses=_errors(404))
async def show_model(
    model: Annotated[str, Path(max_length=200)],
    request: Request,
    response: Response,
    actions: ServiceActions,
) -> AnthropicModel:
    """One of them, by any name that a call may use for it."""
    caller = await caller_in(request, MANNER)
    return AnthropicModel.of(await usable_model(actions, caller, "anthropic", model, response))


@strays.api_route(
    "/{_rest:path}",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    include_in_schema=False,
)
async def not_offered(request: Request) -> Response:
    """All that Anthropic offers beside."""
    await caller_in(request, MANNER)
    raise CallNotOffered(MANNER.surface)
