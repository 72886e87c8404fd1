"""Gemini's own interface for its SDKs, under `/gemini`: passed through, governed and metered."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from services.chat.actions.list_models import OfferedModel
from services.chat.api import dropin_gemini_errors
from services.chat.api.dependencies import ServiceActions
from services.chat.api.dropin_door import (
    Manner,
    caller_in,
    relay,
    relay_free,
    route_class,
)
from services.chat.api.dropin_gemini_calls import read_content, read_count, read_stream
from services.chat.api.dropin_models import usable_model, usable_models
from services.chat.api.dropin_operation import free_call, paid_call
from services.chat.domain.errors import UnsupportedParameter
from shared.http.problems import NEVER, Responses
from shared.vendors.dropins import BadParameter, CallNotOffered

MANNER = Manner(
    surface="Gemini",
    key_header="x-goog-api-key",
    document=dropin_gemini_errors.document,
    words=dropin_gemini_errors.words,
    limit_headers=lambda _limits, _now: {},
)

router = APIRouter(prefix="/gemini", tags=["gemini"], route_class=route_class(MANNER))

_VERSIONS = frozenset({"v1", "v1beta"})
Version = Annotated[str, Path(max_length=20)]
ModelName = Annotated[str, Path(max_length=200)]


class VersionMissing(CallNotOffered):
    """An address without its version: some clients take it from the base URL."""

    def __init__(self, surface: str) -> None:
        super().__init__(surface)
        self.message += " Addresses begin with /gemini/v1beta or /gemini/v1."


class GeminiError(BaseModel):
    """What went wrong; an ErrorInfo among the details has our own stable code and the facts."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]]


class GeminiErrorBody(BaseModel):
    """Google's envelope around it."""

    error: GeminiError


class GeminiModel(BaseModel):
    """A model."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    name: str
    version: str
    display_name: str
    input_token_limit: int
    output_token_limit: int
    supported_generation_methods: list[str] = ["generateContent", "countTokens"]

    @classmethod
    def of(cls, model: OfferedModel) -> GeminiModel:
        return cls(
            name=f"models/{model.model}",
            version=model.model,
            display_name=model.model,
            input_token_limit=model.context_tokens,
            output_token_limit=model.max_output_tokens,
        )


class GeminiModels(BaseModel):
    """All of them, on one page."""

    models: list[GeminiModel]


def _errors(*statuses: int) -> Responses:
    return {
        **{
            status: {"model": GeminiErrorBody, "description": "Google's error."}
            for status in (*statuses, 400, 401, 403, 404, 429, 503)
        },
        422: NEVER,
    }


def _checked(request: Request, version: str) -> None:
    if version not in _VERSIONS:
        raise VersionMissing(MANNER.surface)
    if "key" in request.query_params:
        # An address is written down in many places.
        raise BadParameter("key", "in the x-goog-api-key header")


@router.post(
    "/{version}/models/{model}:generateContent",
    responses=_errors(400, 409, 413, 502),
    openapi_extra=paid_call,
)
async def generate(version: Version, model: ModelName, request: Request) -> Response:
    """generateContent, in Gemini's own words."""
    _checked(request, version)
    return await relay(request, MANNER, lambda body: read_content(version, model, body))


@router.post(
    "/{version}/models/{model}:streamGenerateContent",
    responses=_errors(400, 409, 413, 502),
    openapi_extra=paid_call,
)
async def generate_stream(
    version: Version,
    model: ModelName,
    request: Request,
    alt: Annotated[str | None, Query(max_length=20)] = None,
) -> Response:
    """streamGenerateContent, in Gemini's own words: with `alt=sse` as events, else as an array."""
    _checked(request, version)
    if alt not in (None, "json", "sse"):
        raise UnsupportedParameter("alt")
    as_events = alt == "sse"
    return await relay(
        request, MANNER, lambda body: read_stream(version, model, body, as_events=as_events)
    )


@router.post(
    "/{version}/models/{model}:countTokens",
    responses=_errors(400, 413, 502),
    openapi_extra=free_call,
)
async def count_tokens(version: Version, model: ModelName, request: Request) -> Response:
    """How many tokens a prompt has. Costs nothing."""
    _checked(request, version)
    return await relay_free(request, MANNER, lambda body: read_count(version, model, body))


@router.get("/{version}/models", response_model=GeminiModels, responses=_errors())
async def list_models(
    version: Version, request: Request, response: Response, actions: ServiceActions
) -> GeminiModels:
    """Gemini's models that you can use now."""
    _checked(request, version)
    caller = await caller_in(request, MANNER)
    found = await usable_models(actions, caller, "gemini", response)
    return GeminiModels(models=[GeminiModel.of(model) for model in found])


@router.get("/{version}/models/{model}", response_model=GeminiModel, responses=_errors())
async def show_model(
    version: Version,
    model: ModelName,
    request: Request,
    response: Response,
    actions: ServiceActions,
) -> GeminiModel:
    """One of them, by any name that a call may use for it."""
    _checked(request, version)
    caller = await caller_in(request, MANNER)
    return GeminiModel.of(await usable_model(actions, caller, "gemini", model, response))


@router.api_route(
    "/{_rest:path}",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    include_in_schema=False,
)
async def not_offered(request: Request, _rest: str) -> Response:
    """All that Gemini offers beside."""
    await caller_in(request, MANNER)
    is_versioned = _rest.partition("/")[0] in _VERSIONS
    raise (CallNotOffered if is_versioned else VersionMissing)(MANNER.surface)
