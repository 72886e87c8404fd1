"""A whole keyvault in this process, with its doors open to tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from services.keyvault.app import create_app
from services.keyvault.settings import Settings
from shared.http.app import WebProcess
from shared.identity import ServiceIdentity
from shared.ids import UserId
from tests.support.sessions import know_ended_sessions
from tests.support.tokens import TokenMint, identity_of

SECRET = "marked0123456789abcdefghijklmnop"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a keyvault finds around it."""

    database_url: str
    broker_url: str
    jwks_url: str
    identities: Path
    keyring_file: Path
    mint: TokenMint
    provider_urls: Mapping[str, str] = field(default_factory=dict)

    def settings(self, **parts: Any) -> Settings:
        """Settings for these surroundings."""
        return Settings.model_validate(
            {
                "database_url": self.database_url,
                "cache_url": self.broker_url,
                "broker_url": self.broker_url,
                "jwks_url": self.jwks_url,
                "identity_key_file": self.identities / "keyvault.pem",
                "identity_trust_file": self.identities / "trusted.json",
                "keyring_file": self.keyring_file,
                "examine_seconds": 0.05,
                "log_level": "critical",
                **({"provider_urls": self.provider_urls} if self.provider_urls else {}),
                **parts,
            }
        )


@dataclass(frozen=True, slots=True)
class Keyvault:
    """Its doors, and the proofs that open them."""

    process: WebProcess
    public: httpx.AsyncClient
    internal: httpx.AsyncClient
    around: Surroundings

    async def put(
        self, user: UUID, api_key: str = SECRET, *, provider: str = "openai", tier: str = "free"
    ) -> httpx.Response:
        """Store a key for a user."""
        return await self.public.put(
            f"/keys/{provider}",
            json={"api_key": api_key},
            headers=self.around.mint.headers(user, tier=tier),
        )

    async def get(self, user: UUID, path: str = "/keys") -> httpx.Response:
        """Read something as a user."""
        return await self.public.get(path, headers=self.around.mint.headers(user))

    def service(self, name: str) -> ServiceIdentity:
        """Another service, as it signs."""
        return identity_of(self.around.identities, name)

    def proofs(
        self,
        user: UUID,
        *,
        service: str = "chat",
        provider: str = "openai",
        request_id: str = "request-1",
        token_of: UUID | None = None,
    ) -> dict[str, str]:
        """The headers that a service's call through the egress carries."""
        grant = self.service(service).grant(
            user_id=UserId(user), provider=provider, request_id=request_id
        )
        return {
            "x-companion-grant": grant,
            "x-companion-user": self.around.mint.token(token_of or user),
        }

    async def egress(
        self,
        user: UUID,
        call: str = "openai/v1/chat/completions",
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        **proofs: Any,
    ) -> httpx.Response:
        """Ask as the egress proxy does."""
        return await self.internal.request(
            method,
            f"/internal/egress/{call}",
            headers=headers if headers is not None else self.proofs(user, **proofs),
        )

    async def egress_for_voice(self, user: UUID, **proofs: Any) -> httpx.Response:
        """Ask as the egress proxy does for voice."""
        proofs |= {"service": "voice", "provider": "elevenlabs"}
        return await self.egress(user, "elevenlabs/v1/voices", method="GET", **proofs)


@asynccontextmanager
async def running(around: Surroundings, **parts: Any) -> AsyncIterator[Keyvault]:
    """A keyvault from start to stop."""
    await know_ended_sessions(around.broker_url)
    process = create_app(around.settings(**parts))
    async with (
        process.lifespan(),
        _client(process.public) as public,
        _client(process.internal) as internal,
    ):
        yield Keyvault(process, public, internal, around)


def _client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://keyvault")


def a_user() -> UserId:
    """Somebody nobody else uses."""
    return UserId(uuid4())


Around = Callable[..., Surroundings]
