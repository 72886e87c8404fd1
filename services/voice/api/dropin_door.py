"""What the doors that stand in for a vendor share: its SDK's token, and reading a body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from services.voice.api.dependencies import ServiceActions
from shared.http.caller import Caller, SdkSignedIn, on_behalf_of, refresh_hint
from shared.identity import OnBehalfOf
from shared.tiers import Tier
from shared.values import dataclass
from shared.vendors.dropins import UnreadableBody

KEY_HEADER = "xi-api-key"
M = TypeVar("M", bound=BaseModel)


SdkCaller = Annotated[Caller, Depends(SdkSignedIn(KEY_HEADER))]


async def _on_behalf_of(caller: SdkCaller) -> OnBehalfOf:
    return on_behalf_of(caller)


ForSdkCaller = Annotated[OnBehalfOf, Depends(_on_behalf_of)]


@dataclass(frozen=True, slots=True)
class TierNow:
    """The tier that the caller has, and the headers that tell it where the token claims another."""

    tier: Tier
    headers: Mapping[str, str]


async def _tier_now(caller: SdkCaller, actions: ServiceActions, response: Response) -> TierNow:
    tier = await actions.read_tier(caller.identity.user_id, caller.tier)
    headers = refresh_hint(caller, tier.told_as)
    response.headers.update(headers)  # for routes that answer with a model
    return TierNow(tier, headers)


SdkTier = Annotated[TierNow, Depends(_tier_now)]


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that a route reads itself."""
    schema = kind.model_json_schema()
    whole = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": whole}}}}


def _inlined(schema: Any, known: Mapping[str, Any]) -> Any:
    # In the service's document nothing stands where a model's own schema refers to.
    if isinstance(schema, list):
        return [_inlined(each, known) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(known[schema["$ref"].rpartition("/")[2]], known)
    return {name: _inlined(value, known) for name, value in schema.items()}


async def body_of(request: Request) -> bytes:
    """The body as it came. Raises UnreadableBody."""
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise UnreadableBody from error


def read_body(kind: type[M], body: bytes) -> M:
    """The body as a `kind`. Raises UnreadableBody, or RequestValidationError.

    What FastAPI reads may hold numbers and halves of characters that can't be written again.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody from error
    if not isinstance(found, dict):
        raise UnreadableBody
    try:
        return kind.model_validate(found)
    except ValidationError as failure:
        errors = failure.errors(include_url=False, include_context=False, include_input=False)
        places = [{**one, "loc": ("body", *one["loc"])} for one in errors]
        raise RequestValidationError(places) from failure
