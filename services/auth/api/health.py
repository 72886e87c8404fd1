"""How the whole suite is, summed up for whoever stands before the gateway."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from services.auth.api.dependencies import ServiceActions
from services.auth.domain.ports import ServiceState

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """`ok` when every service is."""

    status: Literal["ok", "not_ready"]
    services: dict[str, ServiceState]


@router.get("/health", response_model=Health, responses={503: {"model": Health}})
async def health(response: Response, actions: ServiceActions) -> Health:
    """Tell how every service is."""
    services = await actions.check_health()
    good = all(state is ServiceState.OK for state in services.values())
    response.status_code = 200 if good else 503
    response.headers["cache-control"] = "no-store"
    return Health(status="ok" if good else "not_ready", services=dict(services))
