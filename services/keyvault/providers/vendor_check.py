"""Asks a vendor about a key, by free calls. What the answers mean stands in shared.vendors."""

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

from shared.vendors import Check, Detail, KeyStatus, Vendor, vendors
from shared.vendors.base import UNREACHABLE, Answer
from shared.vendors.waiting import retry_after, retry_delay

log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 5.0
# As many keys as are checked at once, with all questions about each.
_MOST_CONNECTIONS = 64
_LARGEST_BYTES = 4 << 20
_MOST_NAMES = 1000
_LARGEST_NUMBER = 1 << 53  # what every reader of JSON can hold
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
        answer = await self._ask(vendor, vendor.check_path, api_key)
        if answer is None:
            return UNREACHABLE
        check = vendor.read_check(answer.status, answer.body)
        if check.status is KeyStatus.UNREACHABLE:
            return replace(check, retry_after=answer.retry_after) if answer.retry_after else check
        if check.status is not KeyStatus.INVALID:
            check = vendor.read_further(check, await self._further(vendor, api_key))
        return _cleaned(check, api_key)

    async def _further(self, vendor: Vendor, api_key: str) -> Mapping[str, Answer]:
        paths = vendor.further_paths
        answers = await asyncio.gather(*(self._ask(vendor, path, api_key) for path in paths))
        return {path: answer for path, answer in zip(paths, answers, strict=True) if answer}

    async def _ask(self, vendor: Vendor, path: str, api_key: str) -> Answer | None:
        url = self._base_urls[vendor.name].rstrip("/") + path
        headers = vendor.key_headers(api_key)
        try:
            async with (
                asyncio.timeout(_TIMEOUT_SECONDS),
                self._client.stream("GET", url, headers=headers) as answer,
            ):
                return _read(answer.status_code, answer.headers, await _content(answer))
        # Only the kind is logged: a message may quote the header that was refused.
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            log.warning("vendor_not_reached", provider=vendor.name, kind=type(error).__name__)
            return None


def _read(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    body = _parsed(content)
    return Answer(status, body, retry_after(headers) or retry_delay(body))


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
        details={name: value for name, value in check.details.items() if _is_plain(value, api_key)},
    )


def _names(listed: tuple[str, ...], api_key: str) -> tuple[str, ...]:
    # A server that gives the key back in a name must not get it stored in clear.
    return tuple(name for name in listed if _NAME.match(name) and api_key not in name)[:_MOST_NAMES]


def _is_plain(value: Detail, api_key: str) -> bool:
    if isinstance(value, str):
        return value in _names((value,), api_key)
    return 0 <= value < _LARGEST_NUMBER


@asynccontextmanager
async def open_vendor_check(base_urls: Mapping[str, str]) -> AsyncIterator[VendorCheck]:
    """The client: no proxy from the environment, no redirects, no cookies kept between users."""
    async with httpx.AsyncClient(
        timeout=_TIMEOUT_SECONDS,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=8),
        headers={"user-agent": "tooltip-companion-keyvault"},
    ) as client:
        yield VendorCheck(client, base_urls)
