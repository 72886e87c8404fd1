"""Reading server-sent events off a vendor's answer.

Lines end in CR LF, LF or CR and in nothing else: a text may hold U+2028 or U+0085, at which
`str.splitlines` would break it. Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp

from shared.vendors.failures import VendorFailed

_LONGEST_EVENT = 4 << 20


async def data_lines(
    response: aiohttp.ClientResponse, *, provider: str, silence: timedelta
) -> AsyncIterator[bytes]:
    """The payload of every `data:` line, as it comes.

    Raises VendorFailed when the connection breaks, stays silent for too long, or an event is too
    large to be one.
    """
    buffer = b""
    async for chunk in _chunks(response, provider, silence):
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip(b" \r")
        if len(buffer) > _LONGEST_EVENT:
            raise VendorFailed(provider)
    if buffer.startswith(b"data:"):
        yield buffer[5:].strip(b" \r")


async def _chunks(
    response: aiohttp.ClientResponse, provider: str, silence: timedelta
) -> AsyncIterator[bytes]:
    content, seconds = response.content, silence.total_seconds()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds) as patience:
            while chunk := await content.readany():
                patience.reschedule(loop.time() + seconds)
                yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise VendorFailed(provider) from error
