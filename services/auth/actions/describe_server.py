"""Tell clients how to sign people in."""

from __future__ import annotations

from services.auth.domain.authorization_server import AuthorizationServer
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DescribeServer:
    """What the metadata document says."""

    issuer: str
    public_url: str

    def __call__(self) -> AuthorizationServer:
        return AuthorizationServer(self.issuer, self.public_url.rstrip("/"))
