"""Asks a vendor about a key, by a free call. What the answers mean stands in shared.vendors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import orjson
import structlog

from shared.vendors import Check, Vendor, vendors
from shared.vendors.base import UNREACHABLE

log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 5.0
_LARGEST_BYTES = 4 << 20
_MOST_NAMES = 1000
# Names of models and capabilities; whatever else a vendor lists is not kept.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}\Z")


class VendorCheck:
    """Speaks to the vendors directly, key in a header, following no redirect."""

    def __init__(self, client: httpx.AsyncClient, base_urls: Mapping[str, str]) -> None:
        self._client = client
        self._base_urls = base_urls

    async def check(self, provider: str, api_key: str) -> Check:
        """The vendor's word on the key; UNREACHABLE for every trouble on the way."""
        vendor = vendors[provider]
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                status, body = await self._ask(vendor, api_key)
        # Only the kind is logged: a message may quote the header that was refused.
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            log.warning("vendor_not_reached", provider=provider, kind=type(error).__name__)
            return UNREACHABLE
        return _cleaned(vendor.read_check(status, body), api_key)

    async def _ask(self, vendor: Vendor, api_key: str) -> tuple[int, Any]:
        url = self._base_urls[vendor.name].rstrip("/") + vendor.check_path
        async with self._client.stream("GET", url, headers=vendor.key_headers(api_key)) as answer:
            return answer.status_code, _parsed(await _content(answer))


async def _content(answer: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > _LARGEST_BYTES:
            raise httpx.ReadError("the answer is too long")
    return bytes(content)


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _cleaned(check: Check, api_key: str) -> Check:
    return replace(
        check,
        models=_names(check.models, api_key),
        capabilities=_names(check.capabilities, api_key),
    )


def _names(listed: tuple[str, ...], api_key: str) -> tuple[str, ...]:
    # A server that gives the key back in a name must not get it stored in clear.
    return tuple(name for name in listed if _NAME.match(name) and api_key not in name)[:_MOST_NAMES]


@asynccontextmanager
async def open_vendor_check(base_urls: Mapping[str, str]) -> AsyncIterator[VendorCheck]:
    """The client: no proxy from the environment, no redirects, no cookies kept between users."""
    async with httpx.AsyncClient(
        timeout=_TIMEOUT_SECONDS,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=8),
        headers={"user-agent": "tooltip-companion-keyvault"},
    ) as client:
        yield VendorCheck(client, base_urls)
