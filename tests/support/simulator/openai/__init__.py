"""OpenAI's API, with `http://host/openai/v1` as the SDK's base URL."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.openai import chat, models, responses, speech
from tests.support.simulator.openai.errors import REFUSALS, error
from tests.support.simulator.refusals import Refusal
from tests.support.simulator.vendor import Vendor


class OpenAI(Vendor):
    name = "openai"
    refusals = REFUSALS

    def routes(self) -> list[web.RouteDef]:
        return [
            self.get("/v1/models", models.list_all),
            self.get("/v1/models/{model}", models.show),
            self.generate("/v1/chat/completions", chat.complete),
            self.generate("/v1/responses", responses.respond),
            self.post("/v1/responses/input_tokens", responses.count),
            self.generate("/v1/audio/speech", speech.speak),
            self.otherwise(),
        ]

    def key_of(self, request: web.Request) -> str | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" else None

    def streams(self, call: Call) -> bool:
        return super().streams(call) or call.path == "/v1/audio/speech"

    def refusal(self, kind: str, call: Call) -> Refusal:
        if not kind.startswith("missing_scope"):
            return super().refusal(kind, call)
        scope = "model.request" if call.generates else "api.model.read"
        status = 403 if kind.endswith("403") else 401
        message = f"You have insufficient permissions for this operation. Missing scopes: {scope}."
        return error(status, message)

    def plain(self, status: int, message: str) -> Refusal:
        return error(status, message)

    def render(self, refusal: Refusal, call: Call) -> tuple[Any, Mapping[str, str]]:
        return refusal.body, {"x-request-id": call.request_id, **refusal.headers}
