"""Gemini's native API, with `http://host/gemini` as the SDK's base URL."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.gemini import generate, models
from tests.support.simulator.gemini.errors import REFUSALS, error
from tests.support.simulator.refusals import Refusal, Refused
from tests.support.simulator.vendor import Vendor


class Gemini(Vendor):
    name = "gemini"
    refusals = REFUSALS

    def routes(self) -> list[web.RouteDef]:
        version = "/{version:v1|v1beta}"
        model = version + "/models/{model:[^/:]+}"
        return [
            self.get(version + "/models", models.list_page),
            self.get(model, models.show),
            self.generate(model + ":generateContent", generate.content),
            self.generate(model + ":streamGenerateContent", generate.content_stream),
            self.post(model + ":countTokens", generate.count),
            self.otherwise(),
        ]

    def key_of(self, request: web.Request) -> str | None:
        """The key is also taken from the URL, where it should never be."""
        return request.headers.get("x-goog-api-key") or request.query.get("key")

    def model_of(self, call: Call) -> str:
        return call.request.match_info["model"]

    def streams(self, call: Call) -> bool:
        return call.path.endswith(":streamGenerateContent")

    def check_headers(self, call: Call) -> None:
        headers = call.request.headers
        if "Authorization" in headers and "x-goog-api-key" in headers:
            raise Refused(
                error(400, "Multiple authentication credentials received.", "INVALID_ARGUMENT")
            )

    def plain(self, status: int, message: str) -> Refusal:
        return error(status, message)

    def render(self, refusal: Refusal, call: Call) -> tuple[Any, Mapping[str, str]]:
        """Wrapped in a list when the answer would have been one, or when a fault asks for it."""
        as_array = self.streams(call) and call.request.query.get("alt") != "sse"
        if (as_array or "wrapped" in call.options) and not isinstance(refusal.body, str):
            return [refusal.body], refusal.headers
        return refusal.body, refusal.headers
