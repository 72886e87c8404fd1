"""Routes for what a user may use."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from services.chat.api.dependencies import CurrentTier, ServiceActions
from shared.http.caller import SignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/chat/models", tags=["models"])


class ModelBody(BaseModel):
    """A model of your tier; `usable` tells whether a working key reaches it, yours or that of your
    organisation. `context_tokens`: of prompt and answer together."""

    provider: str
    model: str
    max_output_tokens: int
    context_tokens: int
    features: list[str]
    usable: bool


class ModelsBody(BaseModel):
    """Every model of your tier."""

    data: list[ModelBody]
    next_cursor: None = None


@router.get("", responses=problems(401, 503))
async def list_all(actions: ServiceActions, caller: SignedIn, tier: CurrentTier) -> ModelsBody:
    """What you may use now, by your tier and by your valid keys."""
    identity = caller.identity
    offered = await actions.list_models(identity.user_id, tier, organisation_id=identity.served_by)
    return ModelsBody(
        data=[
            ModelBody(
                provider=model.provider,
                model=model.model,
                max_output_tokens=model.max_output_tokens,
                context_tokens=model.context_tokens,
                features=list(model.features),
                usable=model.usable,
            )
            for model in offered
        ]
    )
