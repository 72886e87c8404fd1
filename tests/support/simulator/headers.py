"""The last request's headers, so that a test can prove which of them reached a vendor."""

import re
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.keys import digest

_SECRET: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "xi-api-key",
        "api-key",
        "cookie",
    }
)
_SECRET_QUERY: Final = re.compile(r"((?:^|&)(?:key|api_key|access_token|authorization)=)([^&]+)")


class LastHeaders:
    """Key headers are kept as `sha256:` and the digest that the ledger shows."""

    def __init__(self) -> None:
        self._by_vendor: dict[str, dict[str, Any]] = {}
        self._last: dict[str, Any] | None = None

    def record(self, vendor: str, request: web.Request) -> None:
        self._last = self._by_vendor[vendor] = {
            "vendor": vendor,
            "method": request.method,
            "path": request.path,
            "query": _SECRET_QUERY.sub(_hide_match, request.query_string),
            "headers": [
                (name, _hidden(value) if name.lower() in _SECRET else value)
                for name, value in request.headers.items()
            ],
        }

    def last(self, vendor: str | None) -> dict[str, Any] | None:
        return self._by_vendor.get(vendor) if vendor else self._last


def _hidden(value: str) -> str:
    scheme, space, key = value.partition(" ")
    if space and scheme.lower() in {"bearer", "basic"}:
        return f"{scheme} sha256:{digest(key)}"
    return f"sha256:{digest(value)}"


def _hide_match(found: re.Match[str]) -> str:
    return f"{found[1]}sha256:{digest(found[2])}"
