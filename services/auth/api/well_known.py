"""What everyone may know about our tokens."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from services.auth.api.dependencies import ServiceActions
from shared.http.problems import problems
from shared.scopes import SIGN_IN_SCOPES

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


class ServerMetadata(BaseModel):
    """How OAuth clients sign people in (RFC 8414)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    response_types_supported: tuple[str, ...] = ("code",)
    response_modes_supported: tuple[str, ...] = ("query",)
    grant_types_supported: tuple[str, ...] = ("authorization_code", "refresh_token")
    code_challenge_methods_supported: tuple[str, ...] = ("S256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("none",)
    revocation_endpoint_auth_methods_supported: tuple[str, ...] = ("none",)
    scopes_supported: tuple[str, ...] = tuple(sorted(SIGN_IN_SCOPES))
    authorization_response_iss_parameter_supported: bool = True
    ui_locales_supported: tuple[str, ...] = ("en",)


# An issuer with the path `/auth` has its metadata at the second (RFC 8414, section 3.1).
@router.get("/oauth-authorization-server", response_model=ServerMetadata)
@router.get("/oauth-authorization-server/auth", response_model=ServerMetadata)
async def server_metadata(response: Response, actions: ServiceActions) -> ServerMetadata:
    """How clients sign people in."""
    response.headers["cache-control"] = "public, max-age=300"
    server = actions.describe_server()
    return ServerMetadata(
        issuer=server.issuer,
        authorization_endpoint=server.authorization_endpoint,
        token_endpoint=server.token_endpoint,
        revocation_endpoint=server.revocation_endpoint,
        jwks_uri=server.jwks_uri,
    )


@router.get(
    "/jwks.json", response_model=PublicKeys, responses=problems(_503="signing_keys_unavailable")
)
async def public_keys(response: Response, actions: ServiceActions) -> Any:
    """The keys that access tokens are verified with."""
    response.headers["cache-control"] = _CACHE_CONTROL
    return actions.publish_signing_keys()
