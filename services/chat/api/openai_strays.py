"""All that OpenAI's SDKs can call beside what is offered over all vendors."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.chat.api.openai_errors import OpenAIRoute
from shared.http.caller import SignedIn
from shared.vendors.dropins import CallNotOffered

router = APIRouter(prefix="/v1", tags=["openai"], route_class=OpenAIRoute)


@router.api_route(
    "/{_rest:path}",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    include_in_schema=False,
)
async def not_offered(_caller: SignedIn) -> Response:
    """Embeddings, files, batches and the like. Its place is behind the routes of `/v1`."""
    raise CallNotOffered("OpenAI")
