"""The list of models as OpenAI's SDKs ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from services.chat.actions.list_models import OfferedModel
from services.chat.api.doors import ServiceActions
from services.chat.api.openai_errors import OpenAIRoute, openai_errors
from services.chat.domain.errors import ModelNotFound
from shared.http.caller import Caller, SignedIn

router = APIRouter(prefix="/v1/models", tags=["openai"], route_class=OpenAIRoute)


class OpenAIModel(BaseModel):
    """A model. Vendors' dates are not known here, so `created` is always 0."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class OpenAIModelList(BaseModel):
    """All of them, on one page."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


@router.get("", response_model=OpenAIModelList, responses=openai_errors(401, 403))
async def list_all(actions: ServiceActions, caller: SignedIn) -> OpenAIModelList:
    """What you can use now: models of your tier that a working key of yours reaches."""
    return OpenAIModelList(data=[_body(model) for model in await _usable(actions, caller)])


@router.get("/{model}", response_model=OpenAIModel, responses=openai_errors(401, 403, 404))
async def show(
    model: Annotated[str, Path(max_length=200)], actions: ServiceActions, caller: SignedIn
) -> OpenAIModel:
    """One of them."""
    for offered in await _usable(actions, caller):
        if offered.model == model:
            return _body(offered)
    raise ModelNotFound


async def _usable(actions: ServiceActions, caller: Caller) -> Sequence[OfferedModel]:
    identity = caller.identity
    offered = await actions.list_models(
        identity.user_id, caller.tier, organisation_id=identity.served_by
    )
    return [model for model in offered if model.usable]


def _body(model: OfferedModel) -> OpenAIModel:
    return OpenAIModel(id=model.model, owned_by=model.provider)
