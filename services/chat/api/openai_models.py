"""The list of models as OpenAI's SDKs ask for it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from services.chat.actions.list_models import OfferedModel
from services.chat.api.dependencies import CurrentTier, ServiceActions
from services.chat.api.openai_errors import OpenAIRoute, openai_errors
from shared.http.caller import SignedIn

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
async def list_all(actions: ServiceActions, caller: SignedIn, tier: CurrentTier) -> OpenAIModelList:
    """What you can use now: models of your tier that a working key of yours reaches."""
    identity = caller.identity
    offered = await actions.list_models(identity.user_id, tier, organisation_id=identity.served_by)
    return OpenAIModelList(data=[_body(model) for model in offered if model.usable])


@router.get("/{model:path}", response_model=OpenAIModel, responses=openai_errors(401, 403, 404))
async def show(
    model: Annotated[str, Path(max_length=200)],
    actions: ServiceActions,
    caller: SignedIn,
    tier: CurrentTier,
) -> OpenAIModel:
    """One of them, by any name that a call may use for it: `openai/gpt-6-luna`, `openai.small`,
    `default`."""
    identity = caller.identity
    return _body(
        await actions.find_model(identity.user_id, tier, model, organisation_id=identity.served_by)
    )


def _body(model: OfferedModel) -> OpenAIModel:
    return OpenAIModel(id=model.model, owned_by=model.provider)
