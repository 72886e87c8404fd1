"""An egress proxy with a stand-in for keyvault and one for each vendor."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from deploy.envoy.egress import VENDOR_CALLS
from deploy.envoy.render import EgressSettings, Endpoint
from tests.gateway.envoy_process import Proxy, running
from tests.gateway.servers import StandIn, free_endpoint, serving
from tests.gateway.wire import Answer, send

# What chat and voice send: the proof of the service and the proof of the user.
PROOFS = {"x-companion-grant": "grant-of-chat", "x-companion-user": "token-of-ada"}
KEY_HEADERS = {
    "openai": ("authorization", "Bearer key-of-ada"),
    "anthropic": ("x-api-key", "key-of-ada"),
    "gemini": ("x-goog-api-key", "key-of-ada"),
    "elevenlabs": ("xi-api-key", "key-of-ada"),
    "compatible": ("authorization", "Bearer key-of-the-operator"),
}
# Base paths as the SDKs have them: OpenAI's alone holds the version.
BASE_PATHS = {
    "openai": "/sim/openai/v1",
    "anthropic": "/sim",
    "gemini": "",
    "elevenlabs": "/e",
    "compatible": "/own/v1",
}

KEY_TOLD = "00000000-0000-0000-0000-000000000001 3"

Decision = Callable[[web.BaseRequest], Awaitable[web.Response]]


async def grant(request: web.BaseRequest) -> web.Response:
    """What keyvault answers when both proofs hold: the key in the vendor's own header."""
    vendor = request.raw_path.removeprefix("/internal/egress/").partition("/")[0]
    name, value = KEY_HEADERS[vendor]
    told = {"x-companion-key": KEY_TOLD, "x-keyvault-secret": "not for vendors"}
    return web.Response(headers={name: value, **told})


@dataclass(slots=True)
class Keyvault:
    """A stand-in that decides as the test tells it, and remembers what it was asked."""

    endpoint: Endpoint
    decide: Decision = grant
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append((request.method, request.raw_path))
        return await self.decide(request)


@dataclass(frozen=True, slots=True)
class Egress:
    proxy: Proxy
    keyvault: Keyvault
    vendors: Mapping[str, StandIn]

    async def send(self, target: str, **request: Any) -> Answer:
        request["headers"] = PROOFS | dict(request.get("headers", {}))
        return await send(self.proxy.port, target, **request)

    def received(self) -> int:
        return sum(len(vendor.received) for vendor in self.vendors.values())


@asynccontextmanager
async def an_egress(directory: Path, **changes: Any) -> AsyncIterator[Egress]:
    async with AsyncExitStack() as stack:
        vendors = {name: await stack.enter_async_context(serving(name)) for name in VENDOR_CALLS}
        guard = await stack.enter_async_context(serving("keyvault"))
        keyvault = Keyvault(guard.endpoint)
        guard.override = keyvault.handle
        defaults: dict[str, Any] = {
            "listen": free_endpoint(),
            "admin": directory / "admin.sock",
            "keyvault": keyvault.endpoint,
            "urls": {
                name: f"http://{vendor.endpoint}{BASE_PATHS[name]}"
                for name, vendor in vendors.items()
            },
            "access_log": directory / "access.log",
        }
        settings = EgressSettings(**(defaults | changes))
        proxy = await stack.enter_async_context(running(settings, directory))
        yield Egress(proxy, keyvault, vendors)
