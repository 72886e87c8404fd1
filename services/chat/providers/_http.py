"""Reading what vendors' HTTP answers share."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from shared.vendors.failures import VendorFailed


async def json_body(response: aiohttp.ClientResponse, *, provider: str) -> dict[str, Any] | None:
    """The body as a JSON object; None when it is none. Raises VendorFailed when it was cut."""
    try:
        parsed = orjson.loads(await response.read())
    except orjson.JSONDecodeError:
        return None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise VendorFailed(provider) from error
    return parsed if isinstance(parsed, dict) else None
