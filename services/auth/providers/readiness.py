"""How services are: the others over HTTP, our own by its checks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx

from services.auth.domain.ports import ServiceState
from shared.errors import ExpectedFailure

_TIMEOUT_SECONDS = 1.0


class PeerReadiness:
    """Asks the `/readyz` of one other service."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def __call__(self) -> ServiceState:
        try:
            answer = await self._client.get(self._url, timeout=_TIMEOUT_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL):
            return ServiceState.UNREACHABLE
        return ServiceState.OK if answer.status_code == 200 else ServiceState.NOT_READY


class OwnReadiness:
    """Runs the checks that our own `/readyz` runs."""

    def __init__(self, checks: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        self._checks = checks

    async def __call__(self) -> ServiceState:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                for check in self._checks.values():
                    await check()
        except (ExpectedFailure, TimeoutError):
            return ServiceState.NOT_READY
        return ServiceState.OK
