"""Tell clients how to sign people in."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.authorization_server import AuthorizationServer


@dataclass(frozen=True, slots=True)
class DescribeServer:
    """What the metadata document says."""

    issuer: str
    public_url: str

    def __call__(self) -> AuthorizationServer:
        return AuthorizationServer(self.issuer, self.public_url.rstrip("/"))
