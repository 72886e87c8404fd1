"""Gemini's models and the paged list of them."""

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.delivery import whole
from tests.support.simulator.gemini.errors import error
from tests.support.simulator.refusals import Refused
from tests.support.simulator.wire import JSON, dump

_DEFAULT_PAGE: Final = 50
_LARGEST_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    #: The model that answers in its place; callers are told only by `modelVersion`.
    served_by: str | None = None
    chat: bool = True
    only_beta: bool = False
    levels: tuple[str, ...] = ("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH")
    takes_budget: bool = False

    @property
    def version(self) -> str:
        return self.served_by or self.id

    def as_json(self) -> dict[str, Any]:
        methods = ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"]
        return {
            "name": f"models/{self.id}",
            "version": "001",
            "displayName": self.id.replace("-", " ").title(),
            "description": "A simulated model.",
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": methods if self.chat else ["predict"],
            "temperature": 1,
            "maxTemperature": 2,
            "topP": 0.95,
            "topK": 64,
            "thinking": self.chat,
        }


_FLASH: Final = ("LOW", "MEDIUM", "HIGH")
_ALL: Final = (
    Model("gemini-4-argon"),
    Model("gemini-4-carbon"),
    Model("gemini-4-hydrogen"),
    Model("gemini-4-neon"),
    Model("gemini-3.8-flash", levels=_FLASH),
    Model("gemini-3.7-flash", levels=_FLASH),
    Model("gemini-3.6-flash"),
    Model("gemini-3.5-flash-lite"),
    Model("gemini-3.1-flash-lite"),
    Model("gemini-2.5-pro", served_by="gemini-3.8-flash", takes_budget=True),
    Model("gemini-2.5-flash", served_by="gemini-3.5-flash-lite", takes_budget=True),
    Model("gemini-flash-latest", served_by="gemini-3.8-flash", only_beta=True),
    Model("gemini-flash-lite-latest", served_by="gemini-3.5-flash-lite", only_beta=True),
    Model("gemini-3.5-flash-preview-tts"),
    Model("gemini-3.1-flash-image"),
    Model("gemini-3.5-flash-live"),
    Model("gemini-robotics-er-2"),
    Model("gemini-embedding-2", chat=False),
    Model("lyria-3", chat=False),
)
MODELS: Final = {model.id: model for model in _ALL}


def find_model(call: Call) -> Model:
    name = call.request.match_info["model"]
    version = call.request.match_info["version"]
    model = MODELS.get(name)
    if model is None or not model.chat or (model.only_beta and version != "v1beta"):
        message = f"models/{name} is not found for API version {version}, or is not supported."
        raise Refused(error(404, message))
    return model


async def list_page(call: Call) -> web.StreamResponse:
    query = call.request.query
    size, token = query.get("pageSize", str(_DEFAULT_PAGE)), query.get("pageToken") or "0"
    if not size.isdigit() or not token.isdigit():
        raise call.refused(400, "Invalid page size or page token.")
    beta = call.request.match_info["version"] == "v1beta"
    models = [model.as_json() for model in _ALL if beta or not model.only_beta]
    start = int(token)
    end = start + min(int(size) or _DEFAULT_PAGE, _LARGEST_PAGE)
    page: dict[str, Any] = {"models": models[start:end]}
    if end < len(models):
        page["nextPageToken"] = str(end)
    return await whole(call, dump(page), JSON)


async def show(call: Call) -> web.StreamResponse:
    name = call.request.match_info["model"]
    if name not in MODELS:
        raise Refused(error(404, f"models/{name} is not found."))
    return await whole(call, dump(MODELS[name].as_json()), JSON)
