"""The proxies that the tests of this folder share, each with its stand-ins."""

import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from deploy.envoy.render import BaseUrl, GatewaySettings, Pool
from tests.gateway.envoy_process import Proxy, running
from tests.gateway.servers import StandIn, free_endpoint, serving
from tests.gateway.tokens import AUDIENCE, ISSUER, a_key, key_set
from tests.gateway.wire import Answer, send

TIERS = ("free", "pro", "enterprise")
ORIGIN = "chrome-extension://abcdefghijklmnop"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway, its stand-ins by cluster name, and the key that signs good tokens."""

    proxy: Proxy
    servers: Mapping[str, StandIn]
    key: ECKey

    async def send(self, target: str, **request: Any) -> Answer:
        return await send(self.proxy.port, target, **request)


@dataclass(slots=True)
class Workplace:
    """Makes gateways with stand-ins of their own, and takes them away at the end."""

    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def gateway(self, directory: Path, **changes: Any) -> Gateway:
        key = a_key()
        names = ["auth", "auth-internal", "keyvault", "billing", "legacy"]
        names += [f"{service}-{tier}" for service in ("chat", "voice") for tier in TIERS]
        servers = {
            name: await self.stack.enter_async_context(
                serving(name, keys=key_set(key) if name == "auth" else None)
            )
            for name in names
        }
        at = {name: server.endpoint for name, server in servers.items()}
        defaults: dict[str, Any] = {
            "listen": free_endpoint(),
            "admin": directory / "admin.sock",
            "auth": at["auth"],
            "auth_internal": at["auth-internal"],
            "keyvault": at["keyvault"],
            "billing": at["billing"],
            "pools": tuple(
                Pool(tier, chat=at[f"chat-{tier}"], voice=at[f"voice-{tier}"]) for tier in TIERS
            ),
            "token_issuer": ISSUER,
            "token_audience": AUDIENCE,
            "cors_origins": (ORIGIN, "https://app.example"),
            "access_log": directory / "access.log",
        }
        if changes.pop("with_legacy", False):
            changes["legacy"] = BaseUrl.parse(f"http://{at['legacy']}/old")
        settings = GatewaySettings(**(defaults | changes))
        proxy = await self.stack.enter_async_context(running(settings, directory))
        return Gateway(proxy, servers, key)


@asynccontextmanager
async def a_workplace() -> AsyncIterator[Workplace]:
    workplace = Workplace()
    async with workplace.stack:
        yield workplace


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Path]:
    """A directory whose name is short: the path of a socket may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        yield Path(name)


def room(parent: Path, name: str) -> Path:
    directory = parent / name
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
async def gateway(short_directory: Path) -> AsyncIterator[Gateway]:
    """The gateway as a deployment has it, with its metrics shown."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(room(short_directory, "main"), metrics=free_endpoint())


@pytest.fixture(scope="session")
async def impatient(short_directory: Path) -> AsyncIterator[Gateway]:
    """A sandbox gateway with a legacy service behind it, which waits a second for answers."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(short_directory, "impatient"),
            sandbox=True,
            with_legacy=True,
            upload_seconds=1,
            answer_timeout_seconds=1,
            stream_idle_seconds=2,
            body_limit_bytes=10_000,
            large_body_limit_bytes=50_000,
            samples_limit_bytes=80_000,
            billing=free_endpoint(),
        )


@pytest.fixture(scope="session")
async def behind_a_proxy(short_directory: Path) -> AsyncIterator[Gateway]:
    """A gateway that believes one proxy in front of it, shields itself from the fourth call, and
    waits a second for answers and three for files."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(short_directory, "proxied"),
            trusted_proxies=1,
            shield_requests_per_second=2,
            answer_timeout_seconds=1,
            file_seconds=3,
        )
