"""What everyone may know about our tokens."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from services.auth.api.actions import ServiceActions
from shared.http.problems import problems

router = APIRouter(prefix="/.well-known", tags=["well-known"])

# A removed key must be out of all caches within a minute.
_CACHE_CONTROL = "public, max-age=60"


class PublicKey(BaseModel):
    """One public key (RFC 7517)."""

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str
    y: str
    kid: str
    use: Literal["sig"]
    alg: Literal["ES256"]


class PublicKeys(BaseModel):
    """A JWKS (RFC 7517)."""

    keys: list[PublicKey]


@router.get(
    "/jwks.json", response_model=PublicKeys, responses=problems(_503="signing_keys_unavailable")
)
async def public_keys(response: Response, actions: ServiceActions) -> Any:
    """The keys that access tokens are verified with."""
    response.headers["cache-control"] = _CACHE_CONTROL
    return actions.publish_signing_keys()
