"""What this installation is to OAuth clients."""

from __future__ import annotations

from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """Its name in tokens, and where it is reached."""

    issuer: str
    base: str

    @property
    def authorization_endpoint(self) -> str:
        return f"{self.base}/oauth/authorize"

    @property
    def token_endpoint(self) -> str:
        return f"{self.base}/oauth/token"

    @property
    def revocation_endpoint(self) -> str:
        return f"{self.base}/oauth/revoke"

    @property
    def jwks_uri(self) -> str:
        return f"{self.base}/.well-known/jwks.json"
