"""Anthropic's API, with `http://host/anthropic` as the SDK's base URL."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.support.simulator.anthropic import messages, models
from tests.support.simulator.anthropic.errors import REFUSALS, error
from tests.support.simulator.anthropic.versions import VERSIONS
from tests.support.simulator.call import Call
from tests.support.simulator.refusals import Refusal, Refused
from tests.support.simulator.vendor import Vendor


class Anthropic(Vendor):
    name = "anthropic"
    refusals = REFUSALS

    def routes(self) -> list[web.RouteDef]:
        return [
            self.get("/v1/models", models.list_page),
            self.get("/v1/models/{model}", models.show),
            self.generate("/v1/messages", messages.create),
            self.post("/v1/messages/count_tokens", messages.count),
            self.otherwise(),
        ]

    def key_of(self, request: web.Request) -> str | None:
        """Of two credentials `x-api-key` wins."""
        key = request.headers.get("x-api-key")
        if key is not None:
            return key
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    def check_headers(self, call: Call) -> None:
        headers = call.request.headers
        if "Origin" in headers and "anthropic-dangerous-direct-browser-access" not in headers:
            raise Refused(self.refusals["cors"])
        version = headers.get("anthropic-version")
        if version is None:
            raise call.refused(400, "anthropic-version: header is required")
        if version not in VERSIONS:
            raise call.refused(400, f'anthropic-version: "{version}" is not a valid version')

    def plain(self, status: int, message: str) -> Refusal:
        return error(status, message)

    def render(self, refusal: Refusal, call: Call) -> tuple[Any, Mapping[str, str]]:
        headers = {"request-id": call.request_id, **refusal.headers}
        if isinstance(refusal.body, str):
            return refusal.body, headers
        return {**refusal.body, "request_id": call.request_id}, headers
